"""Registers a champion where its registry is set, with all of its lineage."""

from collections.abc import Callable, Mapping

from optduel.components.champions import Champion
from optduel.components.core import say
from optduel.components.promote.kubeflow_registry import register_with_kubeflow
from optduel.components.promote.mlflow_registry import register_with_mlflow
from optduel.components.settings import Registry, canonical_json

Register = Callable[[Champion, Registry, str, Mapping[str, str]], str]

REGISTRIES: dict[str, Register] = {"mlflow": register_with_mlflow, "kubeflow": register_with_kubeflow}
"""By the kind in the experiment. Each is given the champion, where to register it, the URI of the folder that
holds the model and all that belongs to it, and the lineage as texts by name; does what is missing, and says
what is there then. Raises RefusedError where the server refuses, StorageError where it cannot be reached."""


def register(champion: Champion) -> None:
    """Registers the champion's model where its registry is set; again, it does what is missing.

    Raises:
        RefusedError: the server refuses.
        StorageError: it cannot be reached.
    """
    registry = champion.registry
    if registry is None:
        return
    folder = champion.candidate.model.rpartition("/")[0].replace("minio://", "s3://", 1)
    said = REGISTRIES[registry.kind](champion, registry, folder, _lineage(champion))
    say(f"promote: {said} at {registry.address}")


def _lineage(champion: Champion) -> dict[str, str]:
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
