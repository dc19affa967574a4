"""MLflow's registry: a version with its lineage as tags, and the alias `champion`.

Credentials come from MLflow's own variables, which a secret sets.
"""

import os
from collections.abc import Mapping
from typing import Any

from optduel.components.champions import Champion
from optduel.components.promote.registry_server import RegistryServer
from optduel.components.settings import Registry

ALIAS = "champion"

TOKEN_VARIABLE = "MLFLOW_TRACKING_TOKEN"  # noqa: S105  # a name
USER_VARIABLE, PASSWORD_VARIABLE = "MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"  # noqa: S105

_PAGE = 200


def register_with_mlflow(
    champion: Champion, registry: Registry, folder: str, lineage: Mapping[str, str]
) -> str:
    """Registers a champion; see `optduel.components.promote.registry.REGISTRIES`."""
    server = _server(registry)
    server.post("registered-models/create", {"name": registry.model}, ("RESOURCE_ALREADY_EXISTS",))
    version = _known_version(server, registry.model, lineage)
    if version is None:
        answer = server.post(
            "model-versions/create",
            {
                "name": registry.model,
                # What MLflow's clients download: the folder, with the SavedModel in it.
                "source": folder,
                "description": f"{champion.action} by {champion.by}: {champion.reason}",
                "tags": [{"key": key, "value": value} for key, value in lineage.items()],
            },
        )
        version = str(answer["model_version"]["version"])
    server.post("registered-models/alias", {"name": registry.model, "alias": ALIAS, "version": version})
    return f"{registry.model} version {version} has the alias {ALIAS}"


def _known_version(server: RegistryServer, model: str, lineage: Mapping[str, str]) -> str | None:
    """The version that is this very model, of this run."""
    wanted = {key: lineage[key] for key in ("optduel.model_sha256", "optduel.run")}
    quoted = model.replace("'", "\\'")
    page: dict[str, Any] = {"filter": f"name='{quoted}'", "max_results": _PAGE}
    while True:
        answer = server.get("model-versions/search", page)
        for version in answer.get("model_versions", []):
            tags = {tag["key"]: tag["value"] for tag in version.get("tags", [])}
            if wanted.items() <= tags.items():
                return str(version["version"])
        if not answer.get("next_page_token"):
            return None
        page["page_token"] = answer["next_page_token"]


def _server(registry: Registry) -> RegistryServer:
    authorization: str | tuple[str, str] | None = None
    if token := os.environ.get(TOKEN_VARIABLE):
        authorization = f"Bearer {token}"
    elif user := os.environ.get(USER_VARIABLE):
        authorization = user, os.environ.get(PASSWORD_VARIABLE, "")
    base = f"{registry.address.rstrip('/')}/api/2.0/mlflow"
    return RegistryServer(base, "MLflow", authorization, f"{TOKEN_VARIABLE} or {USER_VARIABLE}")
