"""Kubeflow Pipelines starts a failed pod again unless its failure is final, and nothing but pods.

Messages are those that Argo 4.0.5 gives a node (workflow/controller/operator.go, inferFailedReason): for a
container that ended, what it left in its termination log; for a DAG none.
"""

import json
import re
from pathlib import Path

import pytest
import yaml

from optduel.components.core import (
    ERROR_TYPES,
    TERMINATION_LOG_VARIABLE,
    DataError,
    LaunchError,
    OptduelError,
    OutOfMemoryError,
    write_termination,
)
from optduel.components.train.local.local_launcher import End
from tests.cluster.kustomize import MANIFESTS, Object

FINAL = sorted(
    {
        one.worker_exit_code
        for one in ERROR_TYPES.values()
        if not End(one.worker_exit_code, one("")).may_be_repeated
    }
)


@pytest.fixture(scope="module")
def strategy() -> Object:
    (container,) = yaml.safe_load(
        (MANIFESTS / "components" / "retry-policy" / "ml-pipeline.yaml").read_text()
    )["spec"]["template"]["spec"]["containers"]
    (variable,) = container["env"]
    return json.loads(variable["value"])["templateDefaults"]["retryStrategy"]  # type: ignore[no-any-return]


def retried(strategy: Object, message: str) -> bool:
    """What Argo makes of the expression."""
    form = r"lastRetry\.message != '' && !\(lastRetry\.message matches '([^']+)'\)"
    final = re.fullmatch(form, strategy["expression"])
    assert final, "this test reads no other form of expression"
    return bool(message) and not re.search(final[1], message)


def message_of(
    error: OptduelError, folder: Path, monkeypatch: pytest.MonkeyPatch, **details: int | str
) -> str:
    """Of a task's pod that has ended with an error: Kubeflow's launcher always exits with 1."""
    log = folder / "termination-log"
    monkeypatch.setenv(TERMINATION_LOG_VARIABLE, str(log))
    write_termination("train", error, details)
    return f"main: Error (exit code 1): {log.read_text()}"


def test_every_failure_is_looked_at(strategy: Object) -> None:
    assert (strategy["limit"], strategy["retryPolicy"]) == ("2", "Always")


def test_expression_names_the_final_exit_codes(strategy: Object) -> None:
    (named,) = re.findall(r"\(([\d|]+)\)", strategy["expression"])
    assert [int(code) for code in named.split("|")] == FINAL == [64, 65, 69, 70, 78]


@pytest.mark.parametrize("error", ERROR_TYPES.values())
def test_final_failures_end_a_task_and_others_do_not(
    error: type[OptduelError], strategy: Object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = error.worker_exit_code not in FINAL
    assert retried(strategy, message_of(error("a = 1: no"), tmp_path, monkeypatch)) is expected
    (tmp_path / "termination-log").unlink()
    assert retried(strategy, message_of(error("a = 1: no"), tmp_path, monkeypatch, step=3)) is expected


@pytest.mark.parametrize(("error", "expected"), [(LaunchError, True), (DataError, False)])
def test_what_a_message_quotes_decides_nothing(
    error: type[OptduelError],
    expected: bool,
    strategy: Object,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    quoted = json.dumps({"exit_code": 75, "a": 1}) + '\n"exit_code": 64,\n' + "x" * 9_000
    message = message_of(error(quoted), tmp_path, monkeypatch)
    assert retried(strategy, message) is expected
    # Of a pod with four containers Kubernetes keeps a quarter of 12 KiB each.
    assert retried(strategy, message[:3072]) is expected


@pytest.mark.parametrize(
    "message",
    [
        "main: Error (exit code 1)",
        f"main: OOMKilled (exit code {OutOfMemoryError.worker_exit_code})",
        "pod deleted",
        "The node was low on resource: memory.",
        "Pod was terminated in response to imminent node shutdown.",
        "pod failed: neither main nor wait container completed successfully",
    ],
)
def test_a_pod_that_was_lost_is_replaced(strategy: Object, message: str) -> None:
    assert retried(strategy, message)


def test_a_dag_is_not_begun_again(strategy: Object) -> None:
    """Argo would do so on every level, with a new task, hence without the checkpoints of the first."""
    assert not retried(strategy, "")
