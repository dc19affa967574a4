"""The launcher of trials whose workers are pods of a training job."""

from collections.abc import Mapping
from typing import Any

from optduel.components.core.stopping import stop_on_signals
from optduel.components.kubernetes.connection import connect
from optduel.components.kubernetes.timing import Timing
from optduel.components.storage.location import join
from optduel.components.storage.objects import publish
from optduel.components.train.cluster.job_series import ClusterTrial, Plan
from optduel.components.train.cluster.names import labels, task_digest
from optduel.components.train.cluster.settings import job_settings, pod_settings
from optduel.components.train.cluster.tfjob import TFJobs
from optduel.components.train.cluster.trainjob import trainjobs
from optduel.components.train.contract.task import Task

_TIMING = Timing()


class ClusterLauncher:
    """Each worker is a pod of a TrainJob or a TFJob.

    The job's name follows from the run and the task, so that a launcher that was killed or evicted is
    replaced by its step's next attempt, which takes the job over. The job belongs to the run's Workflow and
    is deleted with it; a TrainJob knows no other time to live, a TFJob has one.

    Args:
        job: the deployment's job section with the image, as JSON, see `JobSettings`.
        run: identifier of the run.
        task: identifier of the task, the same in every attempt.
        task_config: the fields of `kfp.dsl.TaskConfig`.
        timing: of everything that the deployment does not say.

    Raises:
        ExperimentError: an argument breaks a rule.
    """

    def __init__(
        self, job: str, run: str, task: str, task_config: Mapping[str, Any], timing: Timing = _TIMING
    ) -> None:
        settings = job_settings(job)
        digest = task_digest(run, task)
        self._plan = Plan(
            settings, pod_settings(task_config), digest, labels(run, digest, settings.queue), timing
        )

    def run(self, task: Task) -> None:
        """Returns when every worker has succeeded; their lines come out on standard error.

        A TrainJob's runtime restarts the group; a TFJob is replaced by the next, at most `compute.restarts`
        times. SIGTERM deletes the job where the run was cancelled, and else leaves it to the next attempt.
        To be called in the main thread.

        Raises:
            StoppedError: this process was asked to stop; says what became of the job.
            SetupError: the cluster refuses the job, or its pods cannot start.
            ClusterError: the API server cannot be reached; the job goes on.
            LaunchError: workers were lost, did not start, or missed a deadline.
            OptduelError: the root cause of the last failure, as the worker reported it.
        """
        settings = self._plan.settings
        with stop_on_signals() as request:
            api = connect(task.compute.workers, self._plan.timing, request)
            publish(join(task.output, "task.json"), task.canonical_json().encode())
            kind = TFJobs() if settings.kind == "tfjob" else trainjobs(api, settings.runtime)
            ClusterTrial(self._plan, api, kind, task, request).train()
