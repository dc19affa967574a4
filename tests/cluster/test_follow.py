"""Following runs on Kubeflow Pipelines: states, causes, logs, an end on request; at both addresses."""

import json
from collections.abc import Iterator

import pytest

from optduel.components.core import ExperimentError, RunError
from optduel.pipeline.cli.command_line import main
from optduel.pipeline.cli.shipped import load_deployment, load_experiment
from optduel.pipeline.kfp import following
from optduel.pipeline.kfp.connection import Access, Connection
from optduel.pipeline.kfp.following import follow
from optduel.pipeline.kfp.submission import Submission, prepare, submit
from tests.cluster.kfp_server import KfpServer

LAUNCHER = "I1124 10:15:00.000000      22 launcher_v2.go:220] ExecutorInput: {}"
TRIAL = "train sgd-l2 seed 3"
SAID = (
    'main: Error (exit code 1): {"stage": "train", "error": "DataError", "exit_code": 65, '
    '"message": "records = gs://b/r: 2 shards are damaged\\nrun prepare again"}'
)
FOUR_ARMS = "arms=[{}]".format(
    ",".join(
        f"{{name: arm-{number}, optimizer: adam, learning_rate: {{schedule: constant, base: 0.1}}}}"
        for number in range(4)
    )
)


def prepared(*assignments: str) -> Submission:
    experiment = load_experiment("digits", ("tuning=null", *assignments))
    return prepare(experiment, load_deployment("pod", ["image=registry.example/optduel:1"]))


@pytest.fixture(scope="session")
def submission() -> Submission:
    return prepared("study.seeds=[3,5]")


@pytest.fixture(params=[False, True], ids=["api, nothing retried", "ui, stock"])
def kfp(request: pytest.FixtureRequest) -> Iterator[KfpServer]:
    with KfpServer(stock=request.param, through_ui=request.param) as server:
        yield server


@pytest.fixture
def connection(kfp: KfpServer) -> Connection:
    made = Connection(Access(host=kfp.url))
    made.open()
    return made


def watch(connection: Connection, run_id: str) -> list[str]:
    lines: list[str] = []
    follow(connection, run_id, lines.append, poll=0)
    return lines


def command(kfp: KfpServer, *arguments: str) -> int:
    return main([*arguments, "--host", kfp.url])


def to_its_end(kfp: KfpServer, run_id: str) -> None:
    while kfp.look(run_id).get("state") not in ("SUCCEEDED", "FAILED"):
        pass


def test_every_task_is_told_when_it_begins_and_when_it_ends(
    kfp: KfpServer, connection: Connection, submission: Submission
) -> None:
    run = submit(connection, submission)
    lines = watch(connection, run.run_id)
    tasks = ["prepare"]
    for arm in ("sgd-l2", "adamw"):
        for seed in (3, 5):
            tasks += [f"train {arm} seed {seed}", f"evaluate {arm} seed {seed}"]
    tasks += ["compare", "report"]
    states = ("pending", "running", "succeeded")
    assert sorted(lines) == sorted(f"{task}: {state}" for task in tasks for state in states)
    for task in tasks:
        assert [line for line in lines if line.startswith(f"{task}: ")] == [
            f"{task}: {one}" for one in states
        ]


def test_a_search_is_told_part_by_part(kfp: KfpServer, connection: Connection) -> None:
    tuned = prepared("study.seeds=[3]", "tuning={trials: 4, seeds: [100], tasks: 2}")
    lines = watch(connection, submit(connection, tuned).run_id)
    assert [line.removesuffix(": succeeded") for line in lines if line.endswith(": succeeded")] == [
        "prepare",
        *(f"tune {arm} part {part}" for arm in ("adamw", "sgd-l2") for part in (1, 2)),
        "choose",
        *(f"{stage} {arm} seed 3" for arm in ("sgd-l2", "adamw") for stage in ("train", "evaluate")),
        "compare",
        "report",
    ]


def test_another_attempt_is_told(kfp: KfpServer, connection: Connection, submission: Submission) -> None:
    kfp.failing = {TRIAL: 1}
    lines = watch(connection, submit(connection, submission).run_id)
    assert [line for line in lines if line.startswith(TRIAL)][1:] == [
        f"{TRIAL}: running",
        f"{TRIAL}: running, attempt 2",
        f"{TRIAL}: succeeded, attempt 2",
    ]


def test_a_pod_that_cannot_start_says_why(
    kfp: KfpServer, connection: Connection, submission: Submission, capsys: pytest.CaptureFixture[str]
) -> None:
    reason = "Unschedulable: 0/1 nodes are available: 1 Insufficient cpu."
    kfp.pending = {"prepare": reason}
    run = submit(connection, submission)
    lines: list[str] = []

    def say(line: str) -> None:
        lines.append(line)
        if reason in line:
            assert command(kfp, "status", run.name) == 0
            kfp.pending.clear()

    follow(connection, run.run_id, say, poll=0)
    assert lines[:3] == ["prepare: pending", f"prepare: pending: {reason}", "prepare: running"]
    assert reason in capsys.readouterr().out


def test_a_failure_names_the_task_and_repeats_what_it_said(
    kfp: KfpServer, connection: Connection, submission: Submission
) -> None:
    kfp.failing, kfp.saying = {TRIAL: 3}, {TRIAL: SAID}
    run = submit(connection, submission)
    with pytest.raises(RunError) as raised:
        watch(connection, run.run_id)
    assert str(raised.value) == (
        f"{run.name} ({run.run_id}): has failed\n"
        f"{TRIAL}: records = gs://b/r: 2 shards are damaged\nrun prepare again"
    )


def test_the_end_of_a_run_waits_for_the_words_of_its_tasks(
    kfp: KfpServer, connection: Connection, submission: Submission
) -> None:
    """Of six runs on a real server two ended for the reader before the failed task did."""
    kfp.failing, kfp.saying, kfp.late = {TRIAL: 3}, {TRIAL: SAID}, 4
    with pytest.raises(RunError, match="2 shards are damaged"):
        watch(connection, submit(connection, submission).run_id)
    assert kfp.late == 0


def test_without_words_of_ours_the_clusters_and_the_last_lines_are_told(
    kfp: KfpServer, connection: Connection, submission: Submission
) -> None:
    kfp.failing, kfp.saying = {TRIAL: 3}, {TRIAL: "main: OOMKilled (exit code 137)"}
    kfp.steps_per_look = 10_000
    run = submit(connection, submission)
    to_its_end(kfp, run.run_id)
    log = "\n".join([LAUNCHER, *(f"line {number}" for number in range(9)), "Killed", ""])
    kfp.logs[kfp.workflows[run.run_id].pod(TRIAL)] = log
    with pytest.raises(RunError) as raised:
        watch(connection, run.run_id)
    told = str(raised.value).split(f"{TRIAL}: ")[1]
    assert told == "main: OOMKilled (exit code 137)\nline 5\nline 6\nline 7\nline 8\nKilled"


def test_a_failed_driver_is_its_tasks_failure(
    kfp: KfpServer, connection: Connection, submission: Submission
) -> None:
    kfp.failing = {f"driver of {TRIAL}": 3}
    kfp.steps_per_look = 10_000
    run = submit(connection, submission)
    to_its_end(kfp, run.run_id)
    kfp.logs[kfp.workflows[run.run_id].pod(f"driver of {TRIAL}")] = "cannot resolve inputs"
    with pytest.raises(RunError, match=rf"{TRIAL}: .*\ncannot resolve inputs$"):
        watch(connection, run.run_id)


def test_a_failure_whose_log_is_gone_leads_to_its_page(
    kfp: KfpServer, connection: Connection, submission: Submission
) -> None:
    kfp.failing = {"prepare": 3}
    run = submit(connection, submission)
    with pytest.raises(RunError, match="\nits log is gone; see http.*/#/runs/details/"):
        watch(connection, run.run_id)


def test_a_run_that_somebody_cancels_is_cancelled_not_failed(
    kfp: KfpServer, connection: Connection, submission: Submission, capsys: pytest.CaptureFixture[str]
) -> None:
    """The server calls it FAILED, and kfp.Client's own wait would never return."""
    run = submit(connection, submission)
    for _ in range(5):
        kfp.look(run.run_id)
    assert command(kfp, "cancel", run.name) == 0
    assert command(kfp, "cancel", run.name) == 2
    assert "is being ended already" in capsys.readouterr().err
    with pytest.raises(RunError, match="was cancelled$"):
        watch(connection, run.run_id)
    assert command(kfp, "cancel", run.name) == 2
    assert "has ended already: cancelled" in capsys.readouterr().err
    assert command(kfp, "status", run.name, "--json") == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["state"] == "CANCELLED"
    assert {task["state"] for task in shown["tasks"]} <= {"SUCCEEDED", "CANCELLED", "NOT RUN"}
    assert "CANCELLED" in {task["state"] for task in shown["tasks"]}


def test_a_run_that_ends_while_it_is_cancelled_has_ended(
    kfp: KfpServer, connection: Connection, submission: Submission, capsys: pytest.CaptureFixture[str]
) -> None:
    run = submit(connection, submission)
    kfp.before = lambda request: to_its_end(kfp, run.run_id) if request.path.endswith(":terminate") else None
    assert command(kfp, "cancel", run.name) == 2
    assert "has ended already; see `optduel status`" in capsys.readouterr().err


def test_a_runs_results_are_found_by_its_name(
    kfp: KfpServer, connection: Connection, submission: Submission
) -> None:
    """`optduel history NAME --host ...` and `optduel report` look there."""
    run = submit(connection, submission)
    expected = f"minio://mlpipeline/optduel/runs/{run.run_id}"
    assert following.folder_of(connection, run.name) == expected
    assert following.folder_of(connection, run.run_id) == expected
    kfp.runs[run.run_id]["runtime_config"] = {}
    with pytest.raises(ExperimentError, match="tells no root, so optduel did not start it"):
        following.folder_of(connection, run.name)


def test_a_server_that_is_away_for_a_while_is_waited_for(
    kfp: KfpServer, connection: Connection, submission: Submission
) -> None:
    run = submit(connection, submission)
    lines: list[str] = []

    def say(line: str) -> None:
        lines.append(line)
        if line == f"{TRIAL}: running":
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


def test_waiting_prints_the_verdict_or_what_became_of_the_run(
    kfp: KfpServer, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(following, "POLL_SECONDS", 0)
    monkeypatch.setattr(follow, "__defaults__", (0,))
    kfp.steps_per_look = 10_000
    sentence = "Shown: adamw is better."
    kfp.before = lambda request: kfp.logs.update(
        {
            flow.pod("compare"): f"{LAUNCHER}\noptduel: verdict: {sentence}\noptduel: compare: 2 arms\n"
            for flow in kfp.workflows.values()
            if "compare" in flow.pods
        }
    )
    arguments = ["submit", "digits", "--image", "i:1", "--set", "study.seeds=[0]", "--wait"]
    arguments += ["--set", "tuning=null"]
    assert command(kfp, *arguments) == 0
    captured = capsys.readouterr()
    assert captured.out.splitlines()[1:] == [sentence]
    assert captured.err.count(": succeeded") == 7
    assert command(kfp, *arguments, "--json") == 0
    assert json.loads(capsys.readouterr().out)["verdict"] == [sentence]
    kfp.failing = {"evaluate adamw seed 0": 3}
    assert command(kfp, *arguments) == 1
    err = capsys.readouterr().err
    assert "\noptduel: error: digits-" in err
    assert "evaluate adamw seed 0: main: Error (exit code 1)" in err


def test_status_lists_the_latest_runs_and_all_of_a_runs_tasks(
    kfp: KfpServer, connection: Connection, submission: Submission, capsys: pytest.CaptureFixture[str]
) -> None:
    kfp._create_experiment({"display_name": "somebody else's"})
    runs = [submit(connection, submission) for _ in range(2)]
    kfp.runs[runs[1].run_id]["display_name"] = "mine"
    assert command(kfp, "status", "--json") == 0
    listed = json.loads(capsys.readouterr().out)
    assert [one["id"] for one in listed] == [runs[1].run_id, runs[0].run_id]
    assert command(kfp, "status", "mine", "--json") == 0
    assert json.loads(capsys.readouterr().out)["state"] == "PENDING"  # the server tells none
    for _ in range(4):
        kfp.look(runs[1].run_id)
    assert command(kfp, "status", "mine", "--json") == 0
    shown = json.loads(capsys.readouterr().out)
    assert (shown["run"], shown["state"]) == ("mine", "RUNNING")
    states = {task["name"]: (task["state"], task["attempts"]) for task in shown["tasks"]}
    assert len(states) == 11
    assert states["prepare"][0] in ("PENDING", "RUNNING", "SUCCEEDED")
    assert states["evaluate adamw seed 5"] == ("WAITING", 0)
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


def test_logs_are_those_of_the_named_task_and_of_all_its_attempts(
    kfp: KfpServer, connection: Connection, submission: Submission, capsys: pytest.CaptureFixture[str]
) -> None:
    kfp.steps_per_look = 10_000
    kfp.failing = {TRIAL: 1}
    run = submit(connection, submission)
    assert command(kfp, "logs", run.run_id, "train") == 2
    assert "TASK = train: no task of this name has begun; these have: none yet" in capsys.readouterr().err
    to_its_end(kfp, run.run_id)
    workflow = kfp.workflows[run.run_id]
    kfp.logs[workflow.pod("train adamw seed 5")] = "worker 0: epoch 1\n"
    kfp.logs[workflow.pod(TRIAL, attempt=0)] = "out of memory"
    assert command(kfp, "logs", run.run_id, "train adamw seed 5") == 0
    captured = capsys.readouterr()
    assert captured.out == "worker 0: epoch 1\n"
    assert captured.err == "==> train adamw seed 5: succeeded <==\n"
    assert command(kfp, "logs", run.run_id, TRIAL) == 0
    captured = capsys.readouterr()
    assert captured.out == "out of memory\n"
    assert captured.err == (
        f"==> {TRIAL}, attempt 1 of 2: failed <==\n==> {TRIAL}, attempt 2 of 2: succeeded <==\n"
        "it has printed nothing yet, or its log is no longer kept\n"
    )


@pytest.mark.parametrize("kfp", [True], ids=["ui, stock"], indirect=True)
@pytest.mark.parametrize(
    ("assignments", "trainings"),
    [(("study.seeds=[0,1,2,3,4,5]",), 12), ((f"study.seeds={list(range(40))}", FOUR_ARMS), 20)],
    ids=["six seeds, two arms", "40 seeds, four arms"],
)
def test_runs_of_every_size_are_told_whole(
    kfp: KfpServer,
    connection: Connection,
    capsys: pytest.CaptureFixture[str],
    assignments: tuple[str, ...],
    trainings: int,
) -> None:
    run = submit(connection, prepared(*assignments))
    kfp.steps_per_look = 4
    looks = len(kfp.requests)
    lines = watch(connection, run.run_id)
    looks = len(kfp.requests) - looks
    assert "compressedNodes" in kfp.workflows[run.run_id].manifest()["status"]
    frozen = kfp.look(run.run_id)["run_details"]["task_details"]
    assert len(frozen) < len(kfp.workflows[run.run_id].nodes)
    ended = [line.removesuffix(": succeeded") for line in lines if line.endswith(": succeeded")]
    assert len(ended) == len(set(ended)) == 2 * trainings + 3
    # Two requests a look, whatever the size; and the verdict's log in the end.
    started = [request.path for request in kfp.requests[-looks:]]
    assert started.count(f"/apis/v1beta1/runs/{run.run_id}") <= looks / 2 + 1
    assert command(kfp, "status", run.run_id, "--json") == 0
    tasks = json.loads(capsys.readouterr().out)["tasks"]
    assert {(task["state"], task["attempts"]) for task in tasks} == {("SUCCEEDED", 1)}
    assert [task["name"] for task in tasks if task["name"] not in ended] == []
    for task in tasks:
        kfp.logs[task["pods"][0]["name"]] = f"log of {task['name']}\n"
    assert command(kfp, "logs", run.run_id) == 0
    assert capsys.readouterr().out.splitlines() == [f"log of {task['name']}" for task in tasks]
