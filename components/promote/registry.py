"""Registers a champion with an MLflow server, over its REST API: a version with its lineage, and the alias.

Credentials come from MLflow's own variables, which a secret sets.
"""

import os
from collections.abc import Mapping
from typing import Any

from optduel.components.champions import Champion
from optduel.components.core import RefusedError, StorageError, say
from optduel.components.settings import canonical_json

ALIAS = "champion"

TOKEN_VARIABLE = "MLFLOW_TRACKING_TOKEN"  # noqa: S105  # a name
USER_VARIABLE, PASSWORD_VARIABLE = "MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"  # noqa: S105

_TIMEOUT_SECONDS = (10, 60)
_PAGE = 200


def register(champion: Champion) -> None:
    """Registers the champion's model where its registry is set; again, it does what is missing.

    Raises:
        RefusedError: the server refuses.
        StorageError: it cannot be reached.
    """
    registry = champion.registry
    if registry is None:
        return
    server = _Server(registry.address)
    server.create("registered-models/create", {"name": registry.model})
    version = _known_version(server, registry.model, champion) or _new_version(
        server, registry.model, champion
    )
    server.post("registered-models/alias", {"name": registry.model, "alias": ALIAS, "version": version})
    say(f"promote: {registry.model} version {version} has the alias {ALIAS} at {registry.address}")


def _known_version(server: "_Server", model: str, champion: Champion) -> str | None:
    """The version that is this very model, of this run."""
    wanted = {key: _tags(champion)[key] for key in ("optduel.model_sha256", "optduel.run")}
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


def _new_version(server: "_Server", model: str, champion: Champion) -> str:
    candidate = champion.candidate
    answer = server.post(
        "model-versions/create",
        {
            "name": model,
            # What MLflow's clients download: the folder, with the SavedModel in it.
            "source": candidate.model.rpartition("/")[0].replace("minio://", "s3://", 1),
            "description": f"{champion.action} by {champion.by}: {champion.reason}",
            "tags": [{"key": key, "value": value} for key, value in _tags(champion).items()],
        },
    )
    return str(answer["model_version"]["version"])


def _tags(champion: Champion) -> dict[str, str]:
    """All lineage as texts."""
    candidate = champion.candidate
    told: Mapping[str, object] = {
        "champion": champion.name,
        "change": champion.number,
        "run": candidate.run,
        "model": candidate.model,
        "model_sha256": candidate.model_sha256,
        "experiment": candidate.experiment,
        "experiment_fingerprint": candidate.fingerprint,
        "data_fingerprint": candidate.data_fingerprint,
        "code_version": candidate.code_version,
        "arm": candidate.arm.name,
        "settings": canonical_json(candidate.arm.model_dump(mode="json")),
        "seed": candidate.seed,
        "classes": canonical_json(candidate.classes),
        "images": canonical_json(candidate.images),
        "accuracy": canonical_json(candidate.accuracy.model_dump()),
        "cross_entropy": canonical_json(candidate.cross_entropy.model_dump()),
        "lineage": f"{candidate.model.rpartition('/')[0]}/lineage.json",
        "predecessor": champion.predecessor,
    }
    return {f"optduel.{name}": str(value) for name, value in told.items() if value is not None}


class _Server:
    """MLflow's REST API."""

    def __init__(self, address: str) -> None:
        import requests

        self._address = address.rstrip("/")
        self._session = requests.Session()
        self._session.trust_env = False  # a .netrc of somebody's home is no setting of ours
        if token := os.environ.get(TOKEN_VARIABLE):
            self._session.headers["Authorization"] = f"Bearer {token}"
        elif user := os.environ.get(USER_VARIABLE):
            self._session.auth = (user, os.environ.get(PASSWORD_VARIABLE, ""))

    def get(self, path: str, query: Mapping[str, Any]) -> Any:
        """Reads."""
        return self._ask("GET", path, params=query)

    def post(self, path: str, body: Mapping[str, Any]) -> Any:
        """Changes something."""
        return self._ask("POST", path, json=body)

    def create(self, path: str, body: Mapping[str, Any]) -> None:
        """Makes what may be there already."""
        self._ask("POST", path, accepted=("RESOURCE_ALREADY_EXISTS",), json=body)

    def _ask(self, method: str, path: str, accepted: tuple[str, ...] = (), **how: Any) -> Any:
        import requests

        place = f"{self._address}/api/2.0/mlflow/{path}"
        try:
            answer = self._session.request(
                method, place, timeout=_TIMEOUT_SECONDS, allow_redirects=False, **how
            )
            told = answer.json() if answer.content else {}
        except (requests.RequestException, ValueError) as error:
            raise StorageError(
                f"{place}: does not answer as MLflow does ({type(error).__name__}); check "
                "retraining.registry.address and the server"
            ) from error
        if answer.ok or (isinstance(told, dict) and told.get("error_code") in accepted):
            return told
        said = told.get("message", "") if isinstance(told, dict) else ""
        kind = StorageError if answer.status_code >= 500 or answer.status_code == 429 else RefusedError
        raise kind(
            f"{place}: HTTP {answer.status_code}: {said[:300]}; check retraining.registry, and "
            f"{TOKEN_VARIABLE} or {USER_VARIABLE}"
        )
