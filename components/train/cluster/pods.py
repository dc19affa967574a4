"""What a worker's pod tells: how it ended, or why it does not start."""

from dataclasses import dataclass

from optduel.components.core import (
    DataError,
    ExperimentError,
    LaunchError,
    OptduelError,
    OutOfMemoryError,
    SetupError,
    StoppedError,
    TrainingError,
    UnfollowedError,
    decode_termination,
)
from optduel.components.kubernetes import JsonObject
from optduel.components.train.contract.outcome import End, last_words

_UNSTARTABLE = {
    "ErrImagePull",
    "ImagePullBackOff",
    "ImageInspectError",
    "RegistryUnavailable",
    "SignatureValidationFailed",
    "CreateContainerConfigError",
    "CreateContainerError",
    "RunContainerError",
}
"""Reasons of a waiting container that seldom pass, and reasons that never do:"""

_HOPELESS = {"InvalidImageName", "ErrImageNeverPull"}

_NO_COMMAND = {"StartError", "ContainerCannotRun"}

_BY_CODE: dict[int, type[OptduelError]] = {
    error.worker_exit_code: error
    for error in (
        ExperimentError,
        DataError,
        UnfollowedError,
        TrainingError,
        LaunchError,
        SetupError,
        StoppedError,
    )
}

_SHOWN_CHARACTERS = 500


@dataclass(frozen=True)
class WorkerEnd:
    """How a worker's pod ended, other than well.

    Attributes:
        when: in Kubernetes' form, to a second; empty when not known.
        step: the optimizer step that it reported, or 0.
        is_disrupted: the cluster took the pod, or asked it to stop.
    """

    end: End
    when: str
    step: int
    is_disrupted: bool = False


@dataclass(frozen=True)
class Obstacle:
    """Why a pod does not run.

    Attributes:
        is_permanent: nothing but another request can help.
        is_stubborn: it seldom passes without help.
    """

    reason: str
    error: type[OptduelError]
    is_permanent: bool = False
    is_stubborn: bool = False


def has_started(pod: JsonObject, container: str) -> bool:
    """Whether its container runs or ran, so that it has a log."""
    state = _status(pod, container).get("state", {})
    return "running" in state or "terminated" in state


def has_ended(pod: JsonObject, container: str) -> bool:
    """Whether its container has ended, or never will run."""
    is_over = pod.get("status", {}).get("phase") in ("Succeeded", "Failed")
    return is_over or "terminated" in _status(pod, container).get("state", {})


def is_up(pod: JsonObject) -> bool:
    """Whether it runs, or has run well."""
    return pod.get("status", {}).get("phase") in ("Running", "Succeeded")


def end_of(pod: JsonObject, container: str, name: str) -> WorkerEnd | None:
    """How a pod ended, if it has and not well.

    A worker that its controller stopped because of another one tells nothing, and None is returned.

    Args:
        container: that trains.
        name: of trial and worker, for messages.
    """
    terminated = _status(pod, container).get("state", {}).get("terminated")
    disruption = _disruption(pod)
    if terminated is None:
        if pod.get("status", {}).get("phase") != "Failed":
            return None
        return WorkerEnd(_lost(name, disruption or "failed without a word"), "", 0, bool(disruption))
    code = int(terminated["exitCode"])
    if code == 0:
        return None
    report = decode_termination(terminated.get("message") or "")
    step = int(report.details.get("step", 0)) if report else 0
    if report and not isinstance(report.error, StoppedError):
        end = End(code, report.error)
    elif terminated.get("reason") == "OOMKilled":
        end = End(code, _out_of_memory(pod, container, name))
    elif disruption and code in (StoppedError.worker_exit_code, OutOfMemoryError.worker_exit_code):
        end = _lost(name, disruption, report.error if report else None)
    elif pod["metadata"].get("deletionTimestamp") and code == StoppedError.worker_exit_code:
        return None
    else:
        end = End(_signed(code), report.error if report else _unreported(code, terminated, name))
    return WorkerEnd(end, terminated.get("finishedAt") or "", step, bool(disruption))


def obstacle(pod: JsonObject, name: str) -> Obstacle | None:
    """Why a pod does not run yet, where it says so.

    Args:
        name: of trial and worker, for messages.
    """
    status = pod.get("status", {})
    for found in (*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())):
        waiting = found.get("state", {}).get("waiting") or {}
        reason = waiting.get("reason", "")
        if reason in _UNSTARTABLE | _HOPELESS:
            told = (waiting.get("message") or "no more is known")[:_SHOWN_CHARACTERS]
            return Obstacle(f"{name}: {reason}: {told}", SetupError, reason in _HOPELESS, is_stubborn=True)
    for condition in status.get("conditions") or ():
        if condition["type"] == "PodScheduled" and condition["status"] == "False":
            told = condition.get("message") or condition.get("reason") or "the scheduler does not say why"
            return Obstacle(
                f"{name} cannot be scheduled: {told[:_SHOWN_CHARACTERS].rstrip('.')}", LaunchError
            )
    return None


def lingering(pod: JsonObject, container: str, name: str) -> str:
    """What is to be said of a pod that was to end and has not; nothing of all others.

    Args:
        container: that trains.
        name: of trial and worker, for messages.
    """
    due = pod["metadata"].get("deletionTimestamp")
    if not due or has_ended(pod, container):
        return ""
    why = f" ({disruption})" if (disruption := _disruption(pod)) else ""
    node = pod["spec"].get("nodeName", "")
    return (
        f"{name}: its pod should have ended by {due}{why}, but its node {node} does not report "
        "that it has; delete the node if it is lost, or taint it node.kubernetes.io/out-of-service"
    )


def _status(pod: JsonObject, container: str) -> JsonObject:
    statuses = pod.get("status", {}).get("containerStatuses") or []
    return next((found for found in statuses if found["name"] == container), {})


def _disruption(pod: JsonObject) -> str:
    """Why the cluster ended a pod; nothing when it did not."""
    status = pod.get("status", {})
    told = [
        f"{found.get('reason', 'DisruptionTarget')}: {found.get('message', '')}".strip(": ")
        for found in status.get("conditions") or ()
        if found["type"] == "DisruptionTarget" and found["status"] == "True"
    ]
    if status.get("reason"):  # Evicted, NodeLost, NodeShutdown, UnexpectedAdmissionError, ...
        told.insert(0, f"{status['reason']}: {status.get('message', '')}".strip(": "))
    return told[0][:_SHOWN_CHARACTERS] if told else ""


def _lost(name: str, disruption: str, saved: OptduelError | None = None) -> End:
    if saved:
        return End(StoppedError.worker_exit_code, type(saved)(f"{saved}; its pod: {disruption}"))
    return End(LaunchError.worker_exit_code, LaunchError(f"{name}: lost its pod: {disruption}"))


def _out_of_memory(pod: JsonObject, container: str, name: str) -> OutOfMemoryError:
    (found,) = (one for one in pod["spec"]["containers"] if one["name"] == container)
    limit = found.get("resources", {}).get("limits", {}).get("memory", "the node's")
    return OutOfMemoryError(
        f"{name}: OOMKilled: it needed more memory than its limit, {limit}; raise the deployment's "
        "train.memory, lower training.global_batch_size, or use more workers"
    )


def _unreported(code: int, terminated: JsonObject, name: str) -> OptduelError:
    told = (terminated.get("message") or "").strip()
    if terminated.get("reason") in _NO_COMMAND or code in (126, 127, 128):
        return SetupError(
            f"{name}: its command cannot be run ({told[-_SHOWN_CHARACTERS:] or terminated.get('reason')}); "
            "the deployment's image has to be one that `make images` built"
        )
    # The kubelet fills an empty termination message with the log's end.
    last = f": {last_words(told)[:_SHOWN_CHARACTERS]}" if told else "; see its last lines"
    if code > 128 and code not in _BY_CODE:
        return LaunchError(f"{name}: killed by signal {code - 128}{last}")
    return _BY_CODE.get(code, LaunchError)(f"{name}: exited with code {code}{last}")


def _signed(code: int) -> int:
    """An exit code as `End` has it: negative for a signal that our own table does not know."""
    known = {OutOfMemoryError.worker_exit_code, *_BY_CODE}
    return 128 - code if code > 128 and code not in known else code
