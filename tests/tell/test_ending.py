"""What the last task learns of the others, from a server that keeps runs as the real one does."""

import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from optduel.components.settings import WEBHOOKS_VARIABLE
from optduel.components.tell import ending
from optduel.components.tell.component import tell
from optduel.components.tell.ending import Ending, ending_of
from optduel.pipeline.cli.shipped import load_deployment, load_experiment
from optduel.pipeline.kfp.connection import Access, Connection
from optduel.pipeline.kfp.following import follow
from optduel.pipeline.kfp.submission import Submission, prepare, submit
from tests.cluster.kfp_server import KfpServer
from tests.tell.receivers import Receiver

TRIAL = "train sgd-l2 seed 3"
SAID = (
    'main: Error (exit code 70): {"stage": "train", "error": "TrainingError", "exit_code": 70, '
    '"message": "the loss is not finite"}'
)


@cache
def submission() -> Submission:
    experiment = load_experiment("digits", ["study.seeds=[3]"])
    alerts = "alerts={secret_name: optduel-alerts, events: [optduel.run.failed]}"
    return prepare(experiment, load_deployment("pod", ["image=registry.example/optduel:1", alerts]))


@cache
def retraining() -> Submission:
    experiment = load_experiment("digits", ["study.seeds=[3]", "retraining={champion: digits}"])
    alerts = "alerts={secret_name: optduel-alerts}"
    return prepare(experiment, load_deployment("pod", ["image=registry.example/optduel:1", alerts]))


@pytest.fixture
def kfp(monkeypatch: pytest.MonkeyPatch) -> Iterator[KfpServer]:
    monkeypatch.setattr(ending, "SETTLING_SECONDS", 0.0)
    with KfpServer() as server:
        monkeypatch.setenv("KF_PIPELINES_ENDPOINT", server.url)
        yield server


def begun(kfp: KfpServer) -> str:
    connection = Connection(Access(host=kfp.url))
    return submit(connection, submission()).run_id


def test_a_run_that_succeeds_is_done_and_its_last_task_is_seen(kfp: KfpServer) -> None:
    run, lines = begun(kfp), list[str]()
    follow(Connection(Access(host=kfp.url)), run, lines.append, poll=0)
    assert lines[-3:] == ["tell: pending", "tell: running", "tell: succeeded"]
    for told in ("COMPLETE", "SUCCEEDED", "RUNNING"):
        assert ending_of(run, told) == Ending("done")
    assert ending_of(run, "FAILED") == Ending("failed", ("no task tells why",))


def test_a_failure_is_told_by_the_task_that_runs_all_the_same(
    kfp: KfpServer, receiver: Receiver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kfp.failing, kfp.saying = {TRIAL: 3}, {TRIAL: SAID}
    run = begun(kfp)
    while not kfp.workflows[run].pods.get("tell"):
        kfp.look(run)
    monkeypatch.setenv(WEBHOOKS_VARIABLE, receiver.webhook)

    class Status:
        state = "FAILED"

    tell.python_func(
        experiment="digits",
        events=json.dumps(["optduel.run.failed"]),
        root=str(tmp_path),
        run=run,
        status=Status(),
    )
    ((_, _, event),) = receiver.received
    assert event["data"]["summary"] == f"The run {run} has failed. {TRIAL}: the loss is not finite"
    while kfp.look(run).get("state") != "FAILED":
        pass


@pytest.mark.parametrize(
    ("word", "runs", "left_out"), [("train", "promote", "skip"), ("skip", "skip", "gate")]
)
def test_a_retraining_takes_one_branch_and_tells_afterwards(
    kfp: KfpServer, word: str, runs: str, left_out: str
) -> None:
    kfp.outputs = {"decide.Output": word}
    kfp.before = lambda _: kfp.logs.update(
        {
            flow.pod(runs): "optduel: promote: refused: worse by 0.4 points\n"
            for flow in kfp.workflows.values()
            if runs in flow.pods
        }
    )
    connection, lines = Connection(Access(host=kfp.url)), list[str]()
    run = submit(connection, retraining())
    verdict = follow(connection, run.run_id, lines.append, poll=0)
    assert verdict == ["refused: worse by 0.4 points"]
    assert [line for line in lines if line.startswith("tell")][-1] == "tell: succeeded"
    assert f"{runs}: succeeded" in lines
    assert [line for line in lines if line.startswith(left_out)] == [f"{left_out}: not run"]
    assert ending_of(run.run_id, "RUNNING") == Ending("done"), "what KFP tells after a branch was left out"


def test_a_cancelled_run_is_no_failure(kfp: KfpServer) -> None:
    run = begun(kfp)
    kfp.look(run)
    kfp.workflows[run].cancel()
    assert ending_of(run, "RUNNING") == Ending("cancelled")


@pytest.mark.parametrize(
    ("told", "state"),
    [("FAILED", "failed"), ("COMPLETE", "done"), ("SUCCEEDED", "done"), ("RUNNING", "unknown")],
)
def test_without_the_api_the_given_state_decides_as_far_as_it_can(
    kfp: KfpServer, told: str, state: str, capsys: pytest.CaptureFixture[str]
) -> None:
    kfp.denied = ("/apis/v1beta1/runs",)
    assert ending_of("some-run", told).state == state
    assert "403" in capsys.readouterr().err


def test_a_secret_that_is_missing_keeps_no_pod_from_its_start() -> None:
    text = submission().package.decode()
    assert text.count("secretName: optduel-alerts") == 1, "only the task that tells gets the addresses"
    at = text.index("secretName: optduel-alerts")
    assert "optional: true" in text[at - 400 : at]
