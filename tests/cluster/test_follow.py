"""Following runs on Kubeflow Pipelines: states, causes, logs, an end on request."""

import json
from collections.abc import Iterator

import pytest

from optduel.components.core import RunError
from optduel.pipeline.cli.command_line import main
from optduel.pipeline.cli.shipped import load_deployment, load_experiment
from optduel.pipeline.kfp import following
from optduel.pipeline.kfp.connection import Access, Connection
from optduel.pipeline.kfp.following import follow
from optduel.pipeline.kfp.submission import Submission, prepare, submit
from tests.cluster.kfp_server import KfpServer

LAUNCHER = "I1124 10:15:00.000000      22 launcher_v2.go:220] ExecutorInput: {}"
FAILED = f"""{LAUNCHER}
2026-11-24 10:15:02 something TensorFlow says
train failed: records = gs://b/r: 2 shards are damaged
run prepare again
E1124 10:15:09.000000      22 launcher_v2.go:420] exit status 65
"""


@pytest.fixture(scope="session")
def submission() -> Submission:
    experiment = load_experiment("digits", ["study.seeds=[3,5]"])
    return prepare(experiment, load_deployment("pod", ["image=registry.example/optduel:1"]))


@pytest.fixture(params=[False, True], ids=["bare", "stock"])
def kfp(request: pytest.FixtureRequest) -> Iterator[KfpServer]:
    with KfpServer(stock=request.param) as server:
        yield server


@pytest.fixture
def connection(kfp: KfpServer) -> Connection:
    return Connection(Access(host=kfp.url))


def watch(connection: Connection, run_id: str) -> list[str]:
    lines: list[str] = []
    follow(connection, run_id, lines.append, poll=0)
    return lines


def command(kfp: KfpServer, *arguments: str) -> int:
    return main([*arguments, "--host", kfp.url])


def test_every_task_is_told_when_it_begins_and_when_it_ends(
    kfp: KfpServer, connection: Connection, submission: Submission
) -> None:
    run = submit(connection, submission)
    lines = watch(connection, run.run_id)
    tasks = ["prepare"]
    for arm in ("sgd-l2", "adamw"):
        for seed in (3, 5):
            tasks += [f"train {arm} seed {seed}", f"evaluate {arm} seed {seed}"]
    tasks += ["collect sgd-l2", "collect adamw", "compare", "report"]
    assert sorted(lines) == sorted(f"{task}: {state}" for task in tasks for state in ("running", "succeeded"))
    for task in tasks:
        assert lines.index(f"{task}: running") < lines.index(f"{task}: succeeded")


def test_another_attempt_is_told(kfp: KfpServer, connection: Connection, submission: Submission) -> None:
    kfp.failing = {"train": 1}
    lines = watch(connection, submit(connection, submission).run_id)
    assert [line for line in lines if line.startswith("train sgd-l2 seed 3")] == [
        "train sgd-l2 seed 3: running",
        "train sgd-l2 seed 3: running, attempt 2",
        "train sgd-l2 seed 3: succeeded, attempt 2",
    ]


def test_a_failure_names_the_task_and_repeats_what_it_said(
    kfp: KfpServer, connection: Connection, submission: Submission
) -> None:
    kfp.failing = {"train": 3}
    kfp.steps_per_look = 10_000
    run = submit(connection, submission)
    kfp._look(run.run_id)
    kfp.logs[kfp.workflows[run.run_id].pod("train", attempt=2)] = FAILED
    with pytest.raises(RunError) as raised:
        watch(connection, run.run_id)
    assert str(raised.value) == (
        f"{run.name} ({run.run_id}): has failed\n"
        "train sgd-l2 seed 3: records = gs://b/r: 2 shards are damaged\nrun prepare again"
    )


def test_a_failed_driver_is_its_tasks_failure(
    kfp: KfpServer, connection: Connection, submission: Submission
) -> None:
    kfp.failing = {"train-driver": 3}
    kfp.steps_per_look = 10_000
    run = submit(connection, submission)
    kfp._look(run.run_id)
    kfp.logs[kfp.workflows[run.run_id].pod("train-driver", attempt=-1)] = "cannot resolve inputs"
    with pytest.raises(RunError, match="train sgd-l2 seed 3: cannot resolve inputs$"):
        watch(connection, run.run_id)


def test_without_words_of_ours_the_last_lines_are_told() -> None:
    log = "\n".join([LAUNCHER, *(f"line {number}" for number in range(9)), "Killed", ""])
    assert following.words_of(log) == "line 5\nline 6\nline 7\nline 8\nKilled"


def test_a_failure_whose_log_is_gone_leads_to_its_page(
    kfp: KfpServer, connection: Connection, submission: Submission
) -> None:
    kfp.failing = {"prepare": 3}
    run = submit(connection, submission)
    with pytest.raises(RunError, match="prepare: its log is gone; see http.*/#/runs/details/"):
        watch(connection, run.run_id)


def test_a_run_that_somebody_cancels_ends_the_watch(
    kfp: KfpServer, connection: Connection, submission: Submission, capsys: pytest.CaptureFixture[str]
) -> None:
    """kfp.Client's own wait would never return."""
    run = submit(connection, submission)
    assert command(kfp, "cancel", run.name) == 0
    with pytest.raises(RunError, match="was cancelled"):
        watch(connection, run.run_id)
    assert command(kfp, "cancel", run.name) == 2
    assert "has canceled already" in capsys.readouterr().err


def test_a_server_that_is_away_for_a_while_is_waited_for(
    kfp: KfpServer, connection: Connection, submission: Submission
) -> None:
    run = submit(connection, submission)
    lines: list[str] = []

    def say(line: str) -> None:
        lines.append(line)
        if line == "train sgd-l2 seed 3: running":
            kfp.away = 3

    follow(connection, run.run_id, say, poll=0)
    assert sum("the run goes on, trying again" in line for line in lines) == 1
    assert lines[-1] == "report: succeeded"


def test_a_server_that_stays_away_is_given_up(
    kfp: KfpServer, connection: Connection, submission: Submission, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(following, "SILENT_SECONDS", 0.2)
    run = submit(connection, submission)

    def say(line: str) -> None:
        kfp.away = 1_000_000

    with pytest.raises(following.ClusterError, match="does not answer"):
        follow(connection, run.run_id, say, poll=0.01)


def test_waiting_exits_with_what_became_of_the_run(
    kfp: KfpServer, capsys: pytest.CaptureFixture[str]
) -> None:
    kfp.steps_per_look = 10_000
    arguments = ["submit", "digits", "--image", "i:1", "--set", "study.seeds=[0]", "--wait"]
    assert command(kfp, *arguments) == 0
    assert capsys.readouterr().err.count(": succeeded") == 9
    kfp.failing = {"evaluate-2": 3}
    assert command(kfp, *arguments) == 1
    err = capsys.readouterr().err
    assert "\noptduel: error: digits-" in err
    assert "evaluate adamw seed 0: its log is gone" in err


def test_status_lists_the_latest_runs_and_one_runs_tasks(
    kfp: KfpServer, connection: Connection, submission: Submission, capsys: pytest.CaptureFixture[str]
) -> None:
    kfp._create_experiment({"display_name": "somebody else's"})
    runs = [submit(connection, submission) for _ in range(2)]
    kfp.runs[runs[1].run_id]["display_name"] = "mine"
    assert command(kfp, "status", "--json") == 0
    listed = json.loads(capsys.readouterr().out)
    assert [one["id"] for one in listed] == [runs[1].run_id, runs[0].run_id]
    for _ in range(4):
        kfp._look(runs[1].run_id)
    assert command(kfp, "status", "mine", "--json") == 0
    shown = json.loads(capsys.readouterr().out)
    assert (shown["run"], shown["state"]) == ("mine", "RUNNING")
    assert [task["name"] for task in shown["tasks"]] == ["prepare"]
    assert command(kfp, "status", runs[0].run_id) == 0
    assert f"address: {kfp.url}/#/runs/details/{runs[0].run_id}" in capsys.readouterr().out


def test_an_unknown_or_ambiguous_run_is_told(
    kfp: KfpServer, connection: Connection, submission: Submission, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(kfp, "status", "absent") == 2
    assert "run = absent: there is none at" in capsys.readouterr().err
    assert command(kfp, "cancel", "123e4567-e89b-12d3-a456-426614174000") == 2
    assert "there is none at" in capsys.readouterr().err
    runs = [submit(connection, submission) for _ in range(2)]
    for run in runs:
        kfp.runs[run.run_id]["display_name"] = "twin"
    assert command(kfp, "logs", "twin") == 2
    assert f"give one of {runs[0].run_id}, {runs[1].run_id}" in capsys.readouterr().err


def test_logs_are_those_of_the_named_task(
    kfp: KfpServer, connection: Connection, submission: Submission, capsys: pytest.CaptureFixture[str]
) -> None:
    kfp.steps_per_look = 10_000
    run = submit(connection, submission)
    kfp._look(run.run_id)
    workflow = kfp.workflows[run.run_id]
    kfp.logs[workflow.pod("train-2", iteration=1)] = "worker 0: epoch 1\n"
    kfp.logs[workflow.pod("prepare")] = "1,797 images"
    assert command(kfp, "logs", run.run_id, "train adamw seed 5") == 0
    captured = capsys.readouterr()
    assert captured.out == "worker 0: epoch 1\n"
    assert captured.err == "==> train adamw seed 5: succeeded <==\n"
    assert command(kfp, "logs", run.run_id) == 0
    assert capsys.readouterr().out == "1,797 images\nworker 0: epoch 1\n"
    assert command(kfp, "logs", run.run_id, "train adamax") == 2
    refusal = "TASK = train adamax: no task of this name has begun; these have: prepare, train"
    assert refusal in capsys.readouterr().err
