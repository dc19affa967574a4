"""Kubeflow's Model Registry, API v1alpha3: a registered model, a version and its artifact for each champion.

It knows no aliases: which version is the champion stands in the custom property `champion` of the registered
model, the name of the version. A request changes it at once. The other custom properties, which may be
somebody's, stay.
"""

import os
from collections.abc import Mapping
from typing import Any

from optduel.components.champions import Champion
from optduel.components.core import StorageError
from optduel.components.promote.registry_server import RegistryServer
from optduel.components.settings import Registry

CHAMPION_PROPERTY = "champion"

TOKEN_VARIABLE = "MODEL_REGISTRY_TOKEN"  # noqa: S105  # a name

_NOT_FOUND, _CONFLICT = 404, 409


def register_with_kubeflow(
    champion: Champion, registry: Registry, folder: str, lineage: Mapping[str, str]
) -> str:
    """Registers a champion; see `optduel.components.promote.registry.REGISTRIES`."""
    server = _server(registry)
    candidate = champion.candidate
    name = f"{candidate.run}-{candidate.model_sha256[:12]}"
    model = _made(server, "registered_model", {"name": registry.model}, "registered_models", {})
    version = _made(
        server,
        "model_version",
        {"name": name, "parentResourceId": model["id"]},
        "model_versions",
        {
            "registeredModelId": model["id"],
            "description": f"{champion.action} by {champion.by}: {champion.reason}",
            "author": champion.by,
            "customProperties": {key: _text(value) for key, value in lineage.items()},
        },
    )
    _made(
        server,
        "model_artifact",
        {"name": name, "parentResourceId": version["id"]},
        f"model_versions/{version['id']}/artifacts",
        {
            "artifactType": "model-artifact",
            "uri": f"{folder}/saved_model",
            "modelFormatName": "tensorflow",  # as KServe names the format of a SavedModel
            "modelFormatVersion": "2",
            # The specification's own example for models of Kubeflow Pipelines.
            "modelSourceKind": "pipelines",
            "modelSourceClass": "pipelinerun",
            "modelSourceId": candidate.run,
            "modelSourceName": candidate.experiment,
        },
    )
    properties = {**model.get("customProperties", {}), CHAMPION_PROPERTY: _text(name)}
    server.patch(f"registered_models/{model['id']}", {"customProperties": properties})
    return f"version {name} of {registry.model} is its {CHAMPION_PROPERTY}"


def _made(
    server: RegistryServer,
    kind: str,
    identity: Mapping[str, str],
    collection: str,
    fields: Mapping[str, Any],
) -> Any:
    """What has a name, made where it is not there yet.

    Args:
        kind: path that finds one by `identity`, its name and its parent's id.
        collection: path that makes one with the name and `fields`.
    """
    found = server.get(kind, identity, (_NOT_FOUND,))
    if found is None:
        made = server.post(collection, {"name": identity["name"], **fields}, (_CONFLICT,))
        # Somebody else, or an attempt whose answer was lost, was first.
        found = made or server.get(kind, identity)
    if not isinstance(found, dict) or "id" not in found:
        raise StorageError(f"{kind}: the registry's answer has no id; is it a Kubeflow Model Registry?")
    return found


def _text(value: str) -> dict[str, str]:
    return {"metadataType": "MetadataStringValue", "string_value": value}


def _server(registry: Registry) -> RegistryServer:
    token = os.environ.get(TOKEN_VARIABLE)
    base = f"{registry.address.rstrip('/')}/api/model_registry/v1alpha3"
    return RegistryServer(
        base, "Kubeflow's Model Registry", f"Bearer {token}" if token else None, TOKEN_VARIABLE
    )
