"""Where a run takes place and with what resources; changes no numbers and is no part of a fingerprint."""

import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    PositiveFloat,
    PositiveInt,
    StringConstraints,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from optduel.components.redaction import is_secret, redacted
from optduel.components.settings.alerting import ALERT_VARIABLES, Alerts
from optduel.components.settings.retraining import Prices
from optduel.components.settings.section import Section
from optduel.components.storage import without_credentials


def _written(pattern: str, rule: str) -> BeforeValidator:
    """Takes text of a pattern, or the number that YAML makes of it: `cpu: 4`, as in Kubernetes' manifests."""

    def check(value: Any) -> str:
        text = str(value) if type(value) in (int, float) else value
        if not isinstance(text, str) or not re.fullmatch(pattern, text):
            raise PydanticCustomError("written", rule)
        return text

    return BeforeValidator(check)


def image_reference(image: str) -> str:
    """The reference of a container image, as it is.

    Raises:
        ValueError: it is none, or it holds a user or a password, which the message does not show.
    """
    name, at, digest = image.partition("@")
    if at and not re.fullmatch(r"[a-z0-9]+:[0-9a-f]+", digest):
        raise ValueError("may hold an @ before a digest only; credentials of a registry are the platform's")
    if not re.fullmatch(r"[^\s:@][^\s:]*(:[0-9]+/[^\s:]+)?(:[\w.-]+)?", name):
        raise ValueError(f"{image!r} is not the reference of an image, such as registry/optduel:1")
    return image


def _version(image: str) -> str:
    _, _, tag = image.rpartition("/")[2].partition(":")
    if "@" not in image and tag in ("", "latest"):
        raise ValueError(
            f"{image!r} names no version: tasks may run different code, or get cached results of another; "
            "give a digest, or a tag that is never moved"
        )
    return image


Cores = Annotated[
    str,
    _written(
        r"(?=.*[1-9])([0-9]+(\.[0-9]+)?|[1-9][0-9]*m)",
        "must be cores or thousandths of one, such as 4, 0.5 or 500m",
    ),
]
"""An amount of processors, as Kubernetes and Kubeflow Pipelines both take it."""

Memory = Annotated[
    str,
    _written(
        r"[1-9][0-9]*(Ki|Mi|Gi|Ti|M|G|T)?",
        "must be bytes, or a whole number of Ki, Mi, Gi, Ti, M, G or T, such as 1536Mi",
    ),
]
"""An amount of memory, as Kubernetes and Kubeflow Pipelines both take it."""

Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$", max_length=253)]
"""Of a Kubernetes object."""

Variable = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]
"""Of an environment."""


Root = Annotated[
    str,
    _written(
        r"(gs|s3|minio)://[^\s/]\S*",
        "must be a URI that every pod reaches: gs://BUCKET/..., s3://BUCKET/... or minio://BUCKET/...",
    ),
    AfterValidator(without_credentials),
]
"""A place in an object store."""


USER = 65532
"""Of the images and of every pod: no root, and nobody's account on a host."""

WORKER_PORT = 2222
"""Where every worker of a training job listens; each has an address of its own."""


class Resources(Section):
    """What a task's container, or each worker of a training job, gets.

    Attributes:
        cpu: cores requested; there is no limit, which would only throttle.
        memory: requested, and the limit.
        accelerators: how many, of the kind `accelerator`.
        accelerator: the resource's name.
    """

    cpu: Cores = "1"
    memory: Memory = "2Gi"
    accelerators: Annotated[int, Field(ge=0, le=64)] = 0
    accelerator: Annotated[str, StringConstraints(pattern=r"^[a-z0-9.-]+/[A-Za-z0-9._-]+$")] = (
        "nvidia.com/gpu"
    )


class Toleration(Section):
    """A taint that training tolerates, as Kubernetes has it.

    Attributes:
        key: of the taint.
        operator: "Equal" compares the value, "Exists" takes any; "Equal" where a value is given.
        value: of the taint; the empty text is that of a taint without one.
        effect: of the taint; any when absent.
    """

    key: str
    operator: Literal["Exists", "Equal"] = "Exists"
    value: str | None = None
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = None

    @model_validator(mode="before")
    @classmethod
    def _equal_where_a_value_is_given(cls, authored: Any) -> Any:
        if isinstance(authored, Mapping) and authored.get("value") is not None:
            return {"operator": "Equal", **authored}
        return authored

    @model_validator(mode="after")
    def _compares_what_is_given(self) -> Self:
        if self.operator == "Exists" and self.value:
            raise ValueError("operator Exists compares no value; leave value out, or take Equal")
        if self.operator == "Equal" and self.value is None:
            raise ValueError("operator Equal compares a value; give it, or take Exists")
        return self


class Secret(Section):
    """Keys of a Kubernetes secret that every task and worker finds in its environment.

    Attributes:
        name: of the secret, in the run's namespace.
        variables: the environment variable of each key.
    """

    name: Name
    variables: Annotated[Mapping[str, Variable], Field(min_length=1)]


class Job(Section):
    """How workers are launched as pods of their own.

    Attributes:
        kind: "trainjob" for Kubeflow Trainer, 2.2 or newer; "tfjob" for training-operator 1.9.
        runtime: the TrainJob's ClusterTrainingRuntime.
        service_account: of the workers: their identity towards the store; the runtime's when absent.
        queue: Kueue's local queue.
        queue_seconds: a job that no queue has admitted by then is given up.
        gang_seconds: a job whose workers do not all run so long after admission is given up: nodes have to
            be added and images to be pulled by then.
        run_seconds: a job that has not finished so long after its workers began is ended.
        unfollowed_seconds: a training whose launcher is gone, and was not replaced for so long, saves and
            ends: that of a cancelled run, as a rule, whose launcher had no time to delete the job.
    """

    kind: Literal["trainjob", "tfjob"] = "trainjob"
    runtime: Name = "tensorflow-distributed"
    service_account: Name | None = None
    queue: Name | None = None
    queue_seconds: PositiveFloat = 86_400
    gang_seconds: PositiveFloat = 1_800
    run_seconds: PositiveFloat = 604_800
    unfollowed_seconds: Annotated[float, Field(ge=1, le=86_400)] = 600


class Retries(Section):
    """How often a failed task is started again, and the pause before, which doubles.

    Attributes:
        attempts: after the first one.
        pause_seconds: before the second attempt.
        within_seconds: no attempt begins later than this after the first one began, so it has to be longer
            than training takes.
    """

    attempts: Annotated[int, Field(ge=0, le=100)] = 2
    pause_seconds: PositiveInt = 30
    within_seconds: PositiveInt = 604_800


REPLACED_BY_PIPELINES = ("{{", "/kfp-workspace")
"""What Kubeflow Pipelines replaces wherever it finds it: templates, and the place of its workspace."""

_REPLACED = (*REPLACED_BY_PIPELINES, "$(", "$$")
"""Kubernetes replaces variables, too, and makes one dollar of two."""


def _texts(value: Any, path: str) -> Iterator[tuple[str, str]]:
    """Every text of a section's fields, keys included, with its path."""
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, Mapping):
        for key, part in value.items():
            place = f"{path}.{key}" if path else key
            yield place, key
            yield from _texts(part, place)
    elif isinstance(value, list):
        for index, part in enumerate(value):
            yield from _texts(part, f"{path}.{index}")


class Deployment(Section):
    """Where a run takes place.

    Attributes:
        image: every task's and worker's, by digest or by a tag that is never moved: Kubeflow Pipelines takes
            it for the code's version when it looks for cached results.
        root: for records, runs and the index: a URI that every pod can read and write.
        environment: variables of every task and worker; it is written into pipelines and logs, so what holds
            a secret is refused and belongs to `secrets`.
        secrets: more of them, kept in Kubernetes.
        prepare: resources of the task.
        train: resources of the training task, or with `job` of each worker.
        evaluate: resources of the task.
        report: resources of the tasks that compare and report.
        node_selector: labels of the nodes that train.
        tolerations: taints of the nodes that train.
        job: launches workers as pods of their own; without it a trial trains in its task's pod, on all of
            that pod's accelerators.
        trials_at_once: how many trials of an arm train at a time, the arms one after the other. No more
            than nodes, or Kueue, have room for: a trial without nodes is given up after
            `job.gang_seconds`, and two that hold half of the GPUs each wait for the other half.
        cached: Kubeflow Pipelines may take the records that an earlier run has prepared of a data set that
            TensorFlow Datasets downloads; it does not look whether they are still there. Other sources are
            read by every run, as their content may have changed.
        retries: of every task.
        kept_seconds: how long pods and jobs of a finished run stay; its results stay in the store.
        prices: of processors and accelerators; without them a run's cost is told in seconds only.
        alerts: a last task tells what became of the run; nobody is told without.
    """

    image: Annotated[str, AfterValidator(image_reference), AfterValidator(_version)]
    root: Root
    environment: Mapping[Variable, str] = {}
    secrets: tuple[Secret, ...] = ()
    prepare: Resources = Resources()
    train: Resources = Resources(cpu="4", memory="8Gi")
    evaluate: Resources = Resources(memory="4Gi")
    report: Resources = Resources()
    node_selector: Mapping[str, str] = {}
    tolerations: tuple[Toleration, ...] = ()
    job: Job | None = None
    trials_at_once: PositiveInt = 1
    cached: bool = True
    retries: Retries = Retries()
    kept_seconds: PositiveInt = 604_800
    prices: Prices | None = None
    alerts: Alerts | None = None

    @field_validator("environment")
    @classmethod
    def _no_secrets(cls, environment: Mapping[str, str]) -> Mapping[str, str]:
        found = [
            name
            for name, value in environment.items()
            if is_secret(name) or name in ALERT_VARIABLES.values() or redacted(value) != value
        ]
        if found:
            raise ValueError(
                f"holds credentials in {', '.join(found)}, and is written into pipelines and logs; keep "
                "them in a secret of Kubernetes, and name that under secrets"
            )
        return environment

    @model_validator(mode="after")
    def _no_text_that_is_replaced(self) -> Self:
        for path, text in _texts(self.model_dump(mode="json"), ""):
            for sign in _REPLACED:
                if sign in text:
                    raise ValueError(
                        f"{path}: holds {sign!r}, which Kubeflow Pipelines or Kubernetes replaces on the way "
                        "to a task; write it without"
                    )
        return self

    @model_validator(mode="after")
    def _one_value_for_each_variable(self) -> Self:
        named = [*self.environment, *(name for secret in self.secrets for name in secret.variables.values())]
        twice = sorted({name for name in named if named.count(name) > 1})
        if twice:
            raise ValueError(f"environment, secrets: {', '.join(twice)} set more than once; keep one")
        return self
