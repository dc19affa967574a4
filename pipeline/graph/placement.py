"""Says where a task of the graph runs: image, retries, resources, nodes, credentials, security."""

from collections.abc import Mapping
from typing import Any

from kfp import dsl, kubernetes

from optduel.components.core import POD_TERMINATION_LOG, TERMINATION_LOG_VARIABLE
from optduel.components.results import IMAGE_VARIABLE, METER_VARIABLE, Meter
from optduel.components.settings import USER, Deployment, Resources, canonical_json

LOCAL_IMAGE = "python"
"""The local runner ignores images, and warns of a name without this word."""


class Placement:
    """Puts tasks on a cluster, or without a deployment on this machine, whose runner knows none of this."""

    def __init__(
        self, deployment: Deployment | None, local_image: str = LOCAL_IMAGE, workers: int = 1
    ) -> None:
        self._deployment = deployment
        self._workers = workers
        self._local_image = local_image

    def place(self, task: Any, name: str, stage: str, cached: bool = False) -> Any:
        """Gives a task its place.

        Args:
            task: a KFP task.
            name: shown for it.
            stage: the deployment's field with the task's resources.
            cached: whether an equal task's outputs may be taken instead.

        Returns:
            The task.
        """
        task.set_display_name(name).set_caching_options(cached)
        if self._deployment is None:
            return task.set_container_image(self._local_image)
        task.set_container_image(self._deployment.image)
        _retry(task, self._deployment)
        resources = getattr(self._deployment, stage)
        _resources(task, resources)
        _environment(task, self._deployment)
        # Short, for Argo repeats it in its record of the run.
        meter = self._meter(resources, stage).model_dump(mode="json", exclude_defaults=True)
        task.set_env_variable(METER_VARIABLE, canonical_json(meter))
        if stage == "report":  # whose tasks write lineages
            task.set_env_variable(IMAGE_VARIABLE, self._deployment.image)
        kubernetes.set_security_context(task, run_as_user=USER, run_as_group=USER, run_as_non_root=True)
        return task

    def _meter(self, resources: Resources, stage: str) -> Meter:
        """What a task holds: with `job` a training task waits for workers that have these resources each."""
        deployment = self._deployment
        assert deployment is not None  # noqa: S101  # of the callers
        pods = self._workers if stage == "train" and deployment.job else 1
        return Meter(
            processors=_cores(resources.cpu) * pods,
            accelerators=resources.accelerators * pods,
            prices=deployment.prices,
        )

    def place_training(self, task: Any, name: str) -> Any:
        """Gives a training task its place: as `place`, and the nodes that train.

        With `deployment.job` KFP hands resources and nodes to the task's code, which gives them to workers.
        """
        self.place(task, name, "train")
        if self._deployment is None:
            return task
        for key, value in self._deployment.node_selector.items():
            kubernetes.add_node_selector(task, key, value)
        for toleration in self._deployment.tolerations:
            kubernetes.add_toleration(task, **toleration.model_dump())
        if self._deployment.job is None:
            # Containers get 64 MB of shared memory, too little for NCCL between the GPUs of a pod.
            kubernetes.empty_dir_mount(task, "dshm", "/dev/shm", medium="Memory")
        return task


def pipeline_config(deployment: Deployment | None) -> dsl.PipelineConfig | None:
    """The settings of a whole run: how long its Workflow, hence its pods and their logs, stay."""
    if deployment is None:
        return None
    # The server fills in what is not set, and an hour after success or failure then comes first.
    kept = deployment.kept_seconds
    return dsl.PipelineConfig(
        ttl_seconds_after_finished=kept, ttl_seconds_after_success=kept, ttl_seconds_after_failure=kept
    )


def _cores(amount: str) -> float:
    """An amount of processors, such as 4, 0.5 or 500m, as a number."""
    return float(amount.removesuffix("m")) / 1000 if amount.endswith("m") else float(amount)


def _retry(task: Any, deployment: Deployment) -> None:
    retries = deployment.retries
    if not retries.attempts:
        return
    task.set_retry(
        num_retries=retries.attempts,
        backoff_duration=f"{retries.pause_seconds}s",
        backoff_factor=2,  # Argo reads an integer
        # Counted from the start of the first attempt, which is why KFP's default of an hour is too short.
        backoff_max_duration=f"{retries.within_seconds}s",
    )


def _resources(task: Any, resources: Resources) -> None:
    task.set_cpu_request(resources.cpu)
    task.set_memory_request(resources.memory).set_memory_limit(resources.memory)
    if resources.accelerators:
        task.set_accelerator_type(resources.accelerator).set_accelerator_limit(resources.accelerators)


def _environment(task: Any, deployment: Deployment) -> None:
    for name, value in _sorted(deployment.environment):
        task.set_env_variable(name, value)
    # By what it holds Argo knows a final failure: manifests/components/retry-policy.
    task.set_env_variable(TERMINATION_LOG_VARIABLE, POD_TERMINATION_LOG)
    for secret in deployment.secrets:
        kubernetes.use_secret_as_env(task, secret.name, dict(_sorted(secret.variables)))


def _sorted(values: Mapping[str, str]) -> list[tuple[str, str]]:
    return sorted(values.items())
