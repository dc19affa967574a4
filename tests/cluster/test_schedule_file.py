"""`schedules.yaml` on the command line: mistakes are named, CI has an exit code, what is there is written."""

import datetime
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from optduel.components.settings import WEBHOOKS_VARIABLE, load_fields, validate
from optduel.pipeline.cli.command_line import main
from optduel.pipeline.cli.schedule_file import ScheduleFile
from optduel.pipeline.cli.shipped import load_experiment
from optduel.pipeline.kfp import moments
from optduel.pipeline.kfp.cron import parse_cron
from optduel.pipeline.kfp.schedule_health import last_time
from tests.architecture.documents import REPOSITORY, Document
from tests.cluster.kfp_server import KfpServer
from tests.cluster.server_clock import ServerClock
from tests.tell.receivers import receiving

pytestmark = pytest.mark.usefixtures("compiled_once")

QUICK = "['study.seeds=[0]']"
FILE = """\
schedules:
  - name: mondays
    experiment: digits
    set: ['study.seeds=[0]']
    image: registry.example/optduel:1
    cron: 0 0 6 * * 1
    alerts: {secret_name: optduel-alerts}
  - name: often
    experiment: mine.yaml
    set: ['study.seeds=[0]']
    deployment: here.yaml
    cron: 0 */5 * * * *
"""
DEPLOYMENT = "extends: pod\nimage: registry.example/optduel:2\nroot: s3://bucket/optduel\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Of the file, with an experiment and a deployment beside it."""
    shipped = (REPOSITORY / "pipeline/experiments/digits.yaml").read_text()
    (tmp_path / "mine.yaml").write_text(shipped.replace("name: digits", "name: mine"))
    (tmp_path / "here.yaml").write_text(DEPLOYMENT)
    (tmp_path / "schedules.yaml").write_text(FILE)
    return tmp_path


@pytest.fixture
def kfp(monkeypatch: pytest.MonkeyPatch) -> Iterator[KfpServer]:
    with KfpServer() as server:
        monkeypatch.setattr(moments, "CLOCK", ServerClock(server))
        yield server


def schedule(kfp: KfpServer, *arguments: str) -> int:
    return main(["schedule", *arguments, "--host", kfp.url])


def entry(**fields: str) -> str:
    written = {"name": "a", "experiment": "digits", "image": "i:1", "cron": "'@daily'"} | fields
    return "{" + ", ".join(f"{name}: {value}" for name, value in written.items()) + "}"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("- a", "schedules.yaml = ['a']: must hold the fields of a file of schedules"),
        ("schedules: [{name: a", "schedules.yaml: not YAML: line 1, column"),
        ("schedule: []", "schedule: no such field; did you mean 'schedules'?"),
        ("schedules: [{name: a}]", "schedules.a.cron: is required"),
        (f"schedules: [{entry(crone='1')}]", "schedules.a.crone: no such field; did you mean 'cron'?"),
        (
            f"schedules: [{entry(cron='0 6 * * 1')}]",
            "schedules.a.cron: '0 6 * * 1': has five fields, but Kubeflow Pipelines wants six, seconds "
            "first; write '0 0 6 * * 1'",
        ),
        (f"schedules: [{entry(cron='0 0 6 30 2 *')}]", "no day of the next 5 years matches"),
        (f"schedules: [{entry()}, {entry()}]", "schedules: a is the name of several; give each its own"),
        (f"schedules: [{entry(mode='best')}]", "schedules.a.mode = 'best': must be one of candidate, study"),
        (f"schedules: [{entry(gate='{margn: 1}')}]", "schedules.a.gate.margn: no such field; did you mean"),
        (
            f"schedules: [{entry(alerts='{secret_name: https://chat/canary}')}]",
            "schedules.a.alerts.secret_name: must be the name of a Kubernetes secret",
        ),
        (
            f"schedules: [{entry(experiment='digit')}]",
            "schedules.yaml: schedules.a: experiment = digit: no such experiment; did you mean 'digits'?",
        ),
        (f"schedules: [{entry(experiment='other.yaml')}]", "schedules.a: experiment = "),
        (f"schedules: [{entry(set='[training.epochs=x]')}]", "training.epochs = 'x': "),
        (f"schedules: [{entry(image='optduel')}]", "schedules.a: pod: 1 problem\nimage: 'optduel' names"),
        (f"schedules: [{entry(champion='digits')}]", "a fraction"),
        (f"schedules: [{entry(mode='study')}]", "retraining.champion: is required"),
    ],
)  # fmt: skip
def test_a_bad_file_has_one_message_that_names_the_place_and_nobody_is_asked(
    kfp: KfpServer, folder: Path, capsys: pytest.CaptureFixture[str], text: str, told: str
) -> None:
    if "champion" in text:
        text = text.replace(
            "image: i:1", "image: i:1, set: ['data.split={train: 0.5, validation: 0.5, test: 0}']"
        )
    file = folder / "schedules.yaml"
    file.write_text(text)
    assert schedule(kfp, "plan", "-f", str(file)) == 2
    error = capsys.readouterr().err
    assert told.replace("schedules.yaml", str(file)) in error
    assert error.count("error:") == 1
    assert "canary" not in error
    assert kfp.requests == []


def test_a_file_that_is_not_there_is_named(kfp: KfpServer, capsys: pytest.CaptureFixture[str]) -> None:
    assert schedule(kfp, "apply", "-f", "absent.yaml") == 2
    assert "--file = absent.yaml: No such file or directory; check the path" in capsys.readouterr().err


def test_plan_apply_and_import_agree(
    kfp: KfpServer, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = str(folder / "schedules.yaml")
    assert schedule(kfp, "plan", "-f", file) == 0
    assert schedule(kfp, "plan", "-f", file, "--detailed-exitcode") == 3
    assert capsys.readouterr().out.endswith("2 to create\n")
    assert schedule(kfp, "apply", "-f", file) == 0
    out = capsys.readouterr().out
    assert out.startswith("+ create mondays\n    0 0 6 * * 1\n    1-seeds-10-epochs-pod-")
    assert out.endswith("2 create\n")
    mondays, often = sorted(kfp.recurring_runs.values(), key=lambda one: str(one["display_name"]))
    assert often["runtime_config"]["parameters"]["root"] == "s3://bucket/optduel"
    assert often["runtime_config"]["parameters"]["image"] == "registry.example/optduel:2"
    version = kfp.versions[mondays["pipeline_version_reference"]["pipeline_version_id"]]
    assert "tell" in version["pipeline_spec"]["pipeline_spec"]["root"]["dag"]["tasks"]
    kfp.recurring.pass_time(20)
    assert schedule(kfp, "plan", "-f", file, "--detailed-exitcode") == 0

    schedule(kfp, "pause", "often")
    capsys.readouterr()
    assert schedule(kfp, "import") == 0
    (folder / "imported.yaml").write_text(capsys.readouterr().out)
    assert "paused: true" in (folder / "imported.yaml").read_text()
    assert schedule(kfp, "plan", "-f", str(folder / "imported.yaml"), "--detailed-exitcode") == 0
    assert schedule(kfp, "plan", "-f", file, "--json", "--detailed-exitcode") == 3
    out = capsys.readouterr().out
    kinds = {one["name"]: one["kind"] for one in json.loads(out[out.index("[\n") :])}
    assert kinds == {"mondays": "keep", "often": "resume"}


def test_what_cannot_be_imported_is_said(
    kfp: KfpServer, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "schedules.yaml").write_text(f"schedules: [{entry(set=QUICK)}]")
    schedule(kfp, "apply", "-f", str(folder / "schedules.yaml"))
    (version,) = kfp.versions.values()
    version["description"] = "by hand"
    capsys.readouterr()
    assert schedule(kfp, "import") == 0
    printed = capsys.readouterr()
    assert printed.out == "schedules: []\n"
    assert "left out: a: its version does not say what it was made of" in printed.err


def test_status_tells_the_last_run_the_next_and_what_is_overdue(
    kfp: KfpServer, folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert schedule(kfp, "status") == 0
    assert "there are no schedules yet" in capsys.readouterr().err
    schedule(kfp, "apply", "-f", str(folder / "schedules.yaml"))
    kfp.recurring.pass_time(320)
    assert schedule(kfp, "status", "--json") == 0, "it has begun its run"
    (mondays, often) = json.loads(capsys.readouterr().out.partition("create\n")[2])
    assert (mondays["last_run"], mondays["next"]) == (None, "2026-11-30T06:00:00+00:00")
    assert (often["last_run"], often["last_state"]) == ("often-1", "pending")
    assert often["next"] == "2026-11-28T14:10:00+00:00"

    # The controller is down: time passes, and nothing begins.
    (run,) = kfp.runs.values()
    kfp.change(run, "FAILED")
    assert schedule(kfp, "status") == 1
    assert "the last run has failed" in capsys.readouterr().out
    kfp.change(run, "RUNNING")
    flow = kfp.workflows[run["run_id"]]
    while kfp.look(run["run_id"])["state"] != "SUCCEEDED":
        pass
    kfp.logs[flow.pod("compare")] = "optduel: verdict: Not shown: 1 seed can never show a difference.\n"
    assert schedule(kfp, "status", "--json") == 0
    answer = capsys.readouterr().out
    assert schedule(kfp, "status", "--grace-minutes", "0") == 0, "its last time has had its run"
    assert json.loads(answer)[1]["outcome"] == "Not shown: 1 seed can never show a difference."
    kfp.recurring.time += datetime.timedelta(minutes=25)
    for one in kfp.recurring_runs.values():
        one["updated_at"] = kfp.recurring.time.isoformat()
    with receiving() as receiver:
        monkeypatch.setenv(WEBHOOKS_VARIABLE, receiver.webhook)
        assert schedule(kfp, "status", "--alert") == 1
        assert schedule(kfp, "status", "--alert") == 1
    identities = {(one["type"], one["source"], one["id"]) for _, _, one in receiver.received}
    assert identities == {
        (
            "optduel.schedule.overdue",
            "/optduel/schedules/often",
            "optduel.schedule.overdue/2026-11-28T14:20:00+00:00",
        )
    }
    assert "overdue" in capsys.readouterr().out
    # Paused, it is not expected to begin anything; nor while its run is under way, for one runs at a time.
    schedule(kfp, "pause", "often")
    assert schedule(kfp, "status") == 0


def test_times_are_those_of_the_servers_time_zone(
    kfp: KfpServer, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "schedules.yaml").write_text(f"schedules: [{entry(set=QUICK)}]")
    schedule(kfp, "apply", "-f", str(folder / "schedules.yaml"))
    capsys.readouterr()
    schedule(kfp, "status", "--json", "--time-zone", "Asia/Tokyo")
    assert json.loads(capsys.readouterr().out)[0]["next"] == "2026-11-29T00:00:00+09:00"
    assert schedule(kfp, "status", "--time-zone", "Mars") == 2
    assert (
        "--time-zone = Mars: is not known here; give a name such as Europe/Berlin" in capsys.readouterr().err
    )


@pytest.mark.parametrize(
    ("cron", "last"),
    [
        ("*/20 * * * * *", "2026-11-30T06:12:00"),
        ("0 0 6 * * 1", "2026-11-30T06:00:00"),
        ("0 0 7 * * 1", "2026-11-23T07:00:00"),
        ("0 0 0 29 2 *", "2024-02-29T00:00:00"),
    ],
)
def test_the_last_time_of_an_expression(cron: str, last: str) -> None:
    now = datetime.datetime(2026, 11, 30, 6, 12, 7, tzinfo=datetime.UTC)
    assert last_time(parse_cron(cron), now) == datetime.datetime.fromisoformat(f"{last}+00:00")


@pytest.mark.parametrize("guide", ["pipeline/README.md", "pipeline/deployments/README.md"])
def test_the_files_of_the_guides_hold_what_they_should(guide: str) -> None:
    path = REPOSITORY / guide
    blocks = Document(path, path.read_text(encoding="utf-8")).blocks
    (text,) = (block for block in blocks if block.startswith("schedules:"))
    assert validate(ScheduleFile, load_fields(text, guide, "schedules"), guide).schedules
    for block in blocks:
        if block.startswith("name:"):
            fields = load_fields(block, guide, "an experiment")
            settings = [f"{name}={json.dumps(fields[name])}" for name in ("name", "retraining")]
            source = json.dumps(fields["data"]["source"])
            assert load_experiment("flowers", [*settings, f"data.source={source}"]).retraining
