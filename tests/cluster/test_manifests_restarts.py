"""The runtime restarts all workers or none, as the table of exit codes says."""

import re

import pytest

from optduel.components.core import (
    ERROR_TYPES,
    TERMINATION_LOG_VARIABLE,
    OptduelError,
    OutOfMemoryError,
    StoppedError,
    TrainingError,
)
from optduel.components.records import STAGING_VARIABLE
from optduel.components.settings import Compute
from optduel.components.train.local.local_launcher import End
from optduel.components.train.worker.group import INDEX_VARIABLE
from tests.cluster.kustomize import OVERLAYS, Object, find, needs_kubectl, overlay, runtime_job

pytestmark = [needs_kubectl, pytest.mark.parametrize("name", OVERLAYS)]


PYTHON_FAILED = 1
"""Python's own code, for an exception that nobody caught."""


def action(objects: list[Object], code: int, disrupted: bool = False) -> str:
    """What JobSet does when the first worker to fail ends with a code.

    Reasons and messages are those of Kubernetes' Job controller, pkg/controller/job/pod_failure_policy.go.
    """
    reason, message = "BackoffLimitExceeded", "Job has reached the specified backoff limit"
    for index, rule in enumerate(runtime_job(objects)["podFailurePolicy"]["rules"]):
        suffix = f"matching {rule['action']} rule at index {index}"
        if "onPodConditions" in rule and disrupted:
            reason, message = "PodFailurePolicy", f"Pod a/b has condition DisruptionTarget {suffix}"
            break
        if "onExitCodes" in rule and code in rule["onExitCodes"]["values"]:
            reason = "PodFailurePolicy"
            message = f"Container node for pod a/b failed with exit code {code} {suffix}"
            break
    runtime = find(objects, "ClusterTrainingRuntime", "tensorflow-distributed")
    for rule in runtime["spec"]["template"]["spec"]["failurePolicy"]["rules"]:
        matches = any(re.search(pattern, message) for pattern in rule["onJobFailureMessagePatterns"])
        if reason in rule["onJobFailureReasons"] and matches:
            return str(rule["action"])
    return "RestartJobSet"


def expected(error: type[OptduelError]) -> str:
    """What a launcher on one host does."""
    if not End(error.worker_exit_code, error("")).may_be_repeated:
        return "FailJobSet"
    return "RestartJobSetAndIgnoreMaxRestarts" if error is StoppedError else "RestartJobSet"


@pytest.mark.parametrize("error", ERROR_TYPES.values())
def test_documented_exit_codes_end_the_job_or_restart_all_workers(
    name: str, error: type[OptduelError]
) -> None:
    assert action(overlay(name), error.worker_exit_code) == expected(error)


def test_rules_name_no_other_codes(name: str) -> None:
    rules = runtime_job(overlay(name))["podFailurePolicy"]["rules"]
    named = [code for rule in rules for code in rule.get("onExitCodes", {}).get("values", [])]
    final = {error.worker_exit_code for error in ERROR_TYPES.values() if expected(error) == "FailJobSet"}
    assert sorted(named) == sorted(final | {StoppedError.worker_exit_code, PYTHON_FAILED})


@pytest.mark.parametrize("code", [0, 1, 64, OutOfMemoryError.worker_exit_code, StoppedError.worker_exit_code])
def test_drained_worker_restarts_all_without_counting(name: str, code: int) -> None:
    assert action(overlay(name), code, disrupted=True) == "RestartJobSetAndIgnoreMaxRestarts"


def test_what_python_cannot_begin_ends_the_job_at_once(name: str) -> None:
    """As on one host: a package that the image lacks is not there the next time either."""
    assert action(overlay(name), PYTHON_FAILED) == "FailJobSet"
    assert not End(PYTHON_FAILED, TrainingError("")).may_be_repeated


def test_undocumented_codes_restart_all_a_bounded_number_of_times(name: str) -> None:
    objects = overlay(name)
    assert {action(objects, code) for code in (2, 126, 127, 128, 139, 255)} == {"RestartJobSet"}
    runtime = find(objects, "ClusterTrainingRuntime", "tensorflow-distributed")
    assert runtime["spec"]["template"]["spec"]["failurePolicy"]["maxRestarts"] == Compute().restarts


def test_no_worker_is_replaced_alone(name: str) -> None:
    objects = overlay(name)
    job = runtime_job(objects)
    assert job["backoffLimit"] == 0
    assert "backoffLimitPerIndex" not in job
    assert job["podReplacementPolicy"] == "Failed"
    assert job["template"]["spec"]["restartPolicy"] == "Never"
    assert {rule["action"] for rule in job["podFailurePolicy"]["rules"]} == {"FailJob"}


def test_workers_are_given_what_they_ask_for(name: str) -> None:
    pod = runtime_job(overlay(name))["template"]["spec"]
    (container,) = pod["containers"]
    environment = {entry["name"]: entry for entry in container["env"]}
    mounts = {mount["mountPath"] for mount in container["volumeMounts"]}
    index = environment[INDEX_VARIABLE]["valueFrom"]["fieldRef"]["fieldPath"]
    assert index == "metadata.annotations['batch.kubernetes.io/job-completion-index']"
    assert environment[TERMINATION_LOG_VARIABLE]["value"] == container["terminationMessagePath"]
    assert environment[STAGING_VARIABLE]["value"] in mounts
    assert environment["HOME"]["value"] in mounts
    assert {mount["name"] for mount in container["volumeMounts"]} == {one["name"] for one in pod["volumes"]}
    assert pod["terminationGracePeriodSeconds"] > 2 * Compute().grace_seconds
