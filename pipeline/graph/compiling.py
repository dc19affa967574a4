"""Writes a pipeline as the YAML that Kubeflow Pipelines takes."""

import tempfile
import warnings
from pathlib import Path

from optduel.components.core.errors import ExperimentError
from optduel.components.settings.deployment import Deployment
from optduel.components.settings.experiment import Experiment
from optduel.components.storage.objects import publish


def compiled(experiment: Experiment, deployment: Deployment) -> bytes:
    """An experiment's pipeline as YAML; the same experiment and deployment give the same bytes."""
    from kfp.compiler import Compiler

    from optduel.pipeline.graph.definition import build

    with tempfile.TemporaryDirectory(prefix="optduel-") as scratch, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about defaults of the SDK that this pipeline does not use
        path = Path(scratch) / "pipeline.yaml"
        Compiler().compile(build(experiment, deployment), str(path))
        return path.read_bytes()


def compile_pipeline(experiment: Experiment, deployment: Deployment, path: Path) -> None:
    """Compiles an experiment's pipeline into a file.

    Args:
        experiment: what to run.
        deployment: where.
        path: where the YAML goes, .yaml or .yml.

    Raises:
        ExperimentError: the path cannot be used.
        StorageError: the file cannot be written.
    """
    if path.suffix not in {".yaml", ".yml"}:
        raise ExperimentError(f"--output = {path}: must end in .yaml")
    publish(path, compiled(experiment, deployment))
