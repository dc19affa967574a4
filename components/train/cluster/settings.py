"""What a training job is to be, as the pipeline and Kubeflow Pipelines hand it to the launcher."""

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import PositiveInt, StringConstraints

from optduel.components.settings import Job, Section, decode, validate

JsonFields = Mapping[str, Any]


class JobSettings(Job):
    """The deployment's job section, and what the job needs beside it.

    Attributes:
        image: of every worker.
        kept_seconds: a finished TFJob stays so long; a TrainJob as long as the Workflow that owns it, because
            its API knows no such time.
    """

    image: Annotated[str, StringConstraints(pattern=r"^\S+$")]
    kept_seconds: PositiveInt = 604_800


class PodSettings(Section):
    """What Kubeflow Pipelines passes on of the task's own settings, in the fields of `kfp.dsl.TaskConfig`.

    Attributes:
        resources: of each worker, requests and limits.
        env: of each worker.
    """

    resources: JsonFields | None = None
    env: tuple[JsonFields, ...] = ()
    tolerations: tuple[JsonFields, ...] = ()
    node_selector: Mapping[str, str] = {}
    affinity: JsonFields | None = None
    volumes: tuple[JsonFields, ...] = ()
    volume_mounts: tuple[JsonFields, ...] = ()

    def environment(self, own: Mapping[str, str]) -> list[dict[str, Any]]:
        """The workers' environment in Kubernetes' form; `own` variables are the launcher's, and win."""
        given = [dict(entry) for entry in self.env if entry["name"] not in own]
        return given + [{"name": name, "value": value} for name, value in own.items()]


def job_settings(text: str) -> JobSettings:
    """Decodes the component's `job`. Raises ExperimentError."""
    return decode(JobSettings, text, "job")


def pod_settings(task_config: Mapping[str, Any]) -> PodSettings:
    """Takes the fields of a `kfp.dsl.TaskConfig` that are set. Raises ExperimentError for an unknown one."""
    told = {name: _with_integers(value) for name, value in task_config.items() if value is not None}
    return validate(PodSettings, told, "task_config")


def _with_integers(value: Any) -> Any:
    """KFP makes floats of the numbers in a structure; Kubernetes refuses them where it wants integers."""
    if isinstance(value, dict):
        return {name: _with_integers(part) for name, part in value.items()}
    if isinstance(value, list):
        return [_with_integers(part) for part in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value
