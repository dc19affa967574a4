"""Writes a pipeline as the YAML that Kubeflow Pipelines takes."""

import tempfile
import warnings
from pathlib import Path

from components.core.errors import ExperimentError
from components.core.experiment import Experiment
from components.core.storage import publish


def compile_pipeline(experiment: Experiment, image: str, path: Path) -> None:
    """Compiles an experiment's pipeline; the same experiment and image give the same bytes.

    Args:
        experiment: what to run.
        image: reference of the image for every task.
        path: where the YAML goes, .yaml or .yml.

    Raises:
        ExperimentError: the image or the path cannot be used.
        StorageError: the file cannot be written.
    """
    if not image or any(character.isspace() for character in image):
        raise ExperimentError(
            f"--image = {image!r}: must be an image's reference, such as registry/optduel:1"
        )
    if path.suffix not in {".yaml", ".yml"}:
        raise ExperimentError(f"--output = {path}: must end in .yaml")
    from kfp.compiler import Compiler

    from pipeline.definition import build

    with tempfile.TemporaryDirectory(prefix="optduel-") as scratch, warnings.catch_warnings():
        compiled = Path(scratch) / "pipeline.yaml"
        Compiler().compile(build(experiment, image), str(compiled))
        publish(path, compiled.read_bytes())
