"""The command line in process: answers on stdout, narration on stderr, one message for a wrong request."""

import hashlib
import json
import re
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest

from optduel.pipeline.cli.arguments import KUBEFLOW_OPTIONS, KubeflowOption, access_of
from optduel.pipeline.cli.command_line import build_parser, main

COMMANDS = (
    "list",
    "show",
    "check",
    "data",
    "run",
    "extend",
    "compile",
    "report",
    "history",
    "submit",
    "status",
    "logs",
    "cancel",
    "doctor",
    "lineage",
    "schedule",
    *(
        f"schedule {command}"
        for command in (
            "create",
            "list",
            "pause",
            "resume",
            "delete",
            "plan",
            "apply",
            "import",
            "status",
        )
    ),
    "champion",
    *(f"champion {command}" for command in ("show", "history", "promote", "rollback", "pin")),
)


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = main(arguments)
    captured = capsys.readouterr()
    return code, captured.out, captured.err


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself_with_an_example(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        main([*command.split(), "--help"])
    assert stopped.value.code == 0
    help_text = capsys.readouterr().out
    assert f"example:\n  optduel {command}" in help_text


def test_every_argument_says_in_whole_words_what_it_is() -> None:
    """Not "of the answer", which is half of a sentence whose beginning the reader has to guess."""
    unclear = []
    parsers = [("optduel", build_parser())]
    for name, parser in parsers:
        for action in parser._actions:
            if isinstance(action.choices, dict):
                parsers += [(f"{name} {command}", sub) for command, sub in action.choices.items()]
            elif re.match(r"(of|in|by|for|from|with|at|on)\b|$", action.help or ""):
                unclear.append(f"{name} {action.dest}: {action.help}")
    assert len(parsers) == 1 + len(COMMANDS)
    assert unclear == []


def test_list_names_every_shipped_experiment(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "list", "--json")
    assert code == 0
    assert [entry["name"] for entry in json.loads(out)] == ["coupling", "digits", "flowers", "tutorial"]
    _, text, _ = run(capsys, "list")
    for entry in json.loads(out):
        assert f"{entry['name']:<10} {entry['title']}" in text


@pytest.mark.parametrize("option", KUBEFLOW_OPTIONS, ids=lambda option: option.field)
@pytest.mark.parametrize("command", ["status", "submit digits --image a:1", "schedule list", "doctor"])
def test_each_option_of_kubeflow_can_come_from_the_environment(
    command: str,
    option: KubeflowOption,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def found(*given: str) -> object:
        return getattr(access_of(build_parser().parse_args([*command.split(), *given])), option.field)

    for other in KUBEFLOW_OPTIONS:
        monkeypatch.delenv(other.variable, raising=False)
    assert found() is None
    monkeypatch.setenv(option.variable, "")
    assert found() is None
    monkeypatch.setenv(option.variable, "told by the environment")
    assert found() == "told by the environment"
    assert found(option.flag, "given") == "given"
    with pytest.raises(SystemExit):
        main([*command.split()[: 2 if "schedule" in command else 1], "--help"])
    assert f"[{option.variable}]" in capsys.readouterr().out


def test_show_applies_assignments_and_its_yaml_is_the_same_experiment(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assignments = ["--set", "arms.adamw.weight_decay=0.5", "--set", "training.epochs=3"]
    _, yaml_text, _ = run(capsys, "show", "digits", *assignments)
    path = tmp_path / "mine.yaml"
    path.write_text(yaml_text, encoding="utf-8")
    _, again, _ = run(capsys, "show", str(path), "--json")
    shown = json.loads(again)
    assert shown["experiment"]["training"]["epochs"] == 3
    assert shown["experiment"]["arms"][1]["weight_decay"] == 0.5
    assert f"# fingerprint: {shown['fingerprint']}" in yaml_text


def test_shown_schema_accepts_the_shown_experiment_and_refuses_others(
    capsys: pytest.CaptureFixture[str],
) -> None:
    _, schema_text, _ = run(capsys, "show", "--schema")
    _, shown, _ = run(capsys, "show", "digits", "--json")
    schema, experiment = json.loads(schema_text), json.loads(shown)["experiment"]
    jsonschema.validate(experiment, schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(experiment | {"epoch": 3}, schema)
    assert run(capsys, "show", "digits", "--schema")[1] == schema_text


def test_show_without_an_experiment_asks_for_one(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, "show")
    assert (code, out) == (2, "")
    assert err.startswith("optduel: error: EXPERIMENT: is required, unless --schema or --deployment is given")


def test_show_states_the_tutorials_decay_in_every_convention(capsys: pytest.CaptureFixture[str]) -> None:
    """Measured: AdamW at 3e-4 with decay 1e-3 shrinks weights by 0.02 % over the run, SGD's L2 by 1.3 %."""
    _, out, _ = run(capsys, "show", "tutorial", "--examples", "2936", "--json")
    decay = json.loads(out)["decay"]
    assert decay["adamw"]["shrink_percent"] == pytest.approx(0.0193, abs=1e-4)
    assert decay["sgd-l2"]["shrink_percent"] == pytest.approx(1.28, abs=0.01)
    assert decay["sgd-l2"]["l2_torch"] == 0.002
    _, text, _ = run(capsys, "show", "tutorial", "--examples", "2936")
    assert "# shrink of a weight over the run, in percent" in text


def test_check_warns_of_what_makes_the_tutorial_unfair(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, "check", "tutorial")
    assert code == 0
    assert "tutorial: can run, with 3 cautions" in out
    assert "one seed can never show a difference at 95 %" in out
    assert "the metrics are taken on the validation split" in out
    assert "decay is 67 times as strong in sgd-l2" in out
    assert err == "next: optduel run tutorial\n"


@pytest.mark.parametrize(
    "command",
    [
        ["submit", "tutorial", "--dry-run"],
        ["schedule", "create", "tutorial", "--cron", "@daily", "--dry-run"],
        ["compile", "tutorial", "--output", "tutorial.yaml"],
    ],
    ids=lambda command: command[0],
)
def test_cautions_are_told_wherever_something_would_be_spent(
    command: list[str], capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    _, checked, _ = run(capsys, "check", "tutorial", "--json")
    code, _, err = run(capsys, *command, "--image", "i:1")
    assert code == 0
    told = [line.removeprefix("caution: ") for line in err.splitlines() if line.startswith("caution: ")]
    assert told == json.loads(checked)["cautions"]
    assert len(told) == 3


@pytest.mark.parametrize("command", [["submit"], ["schedule", "create", "--cron", "@daily"]])
@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("data.source={kind: folder, path: photos}", "data.source.path = photos: is a place of this machine"),
        ("compute.workers=2", "compute.workers = 2: one pod with 1 accelerator trains a trial"),
    ],
)
def test_what_a_cluster_can_never_run_is_refused_before_it_is_sent(
    command: list[str], assignment: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = run(capsys, *command, "digits", "--image", "i:1", "--dry-run", "--set", assignment)
    assert (code, out) == (2, "")
    assert message in err


def test_check_names_the_command_that_runs_the_very_same(capsys: pytest.CaptureFixture[str]) -> None:
    source = "data.source={kind: folder, path: my photos}"
    _, _, err = run(capsys, "check", "flowers", "--set", source, "--set", "training.epochs=3")
    assert err == f"next: optduel run flowers --set '{source}' --set training.epochs=3\n"


@pytest.mark.parametrize("name", ["digits", "flowers"])
def test_check_finds_nothing_to_caution_in_the_fair_experiments(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    _, out, _ = run(capsys, "check", name, "--json")
    assert json.loads(out)["cautions"] == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["check", "digit"], "experiment = digit: no such experiment; did you mean 'digits'?"),
        (["check", "nothing-like-it"], "there are coupling, digits, flowers, tutorial"),
        (["check", "absent.yaml"], "experiment = absent.yaml: No such file or directory"),
        (
            ["check", "digits", "--set", "training.epoch=3"],
            "training.epoch: no such field; did you mean 'epochs'?",
        ),
        (
            ["check", "digits", "--set", "arms.adamw.learning_rate.base=-1"],
            "arms.adamw.learning_rate.base = -1: must be greater than 0",
        ),
        (["check", "digits", "--set", "training.epochs"], "--set training.epochs: write path=value"),
        (["check", "digits", "--set", "compute.workers=3"], "must divide data.shards = 8"),
        (["run", "digits", "--root", "ftp://host/place"], "scheme that is not supported"),
        (
            ["compile", "digits", "--image", "a b", "--output", "p.yaml"],
            "image: 'a b' is not the reference of an image, such as registry/optduel:1",
        ),
        (
            ["compile", "digits", "--output", "p.yaml"],
            "image: is required: the deployment pod leaves it open",
        ),
        (
            ["submit", "digits", "--image", "i:1", "--deployment", "trainjobs"],
            "deployment = trainjobs: no such deployment; did you mean 'trainjob'?",
        ),
        (
            ["submit", "digits", "--image", "i:1", "--deployment", "absent.yaml"],
            "deployment = absent.yaml: No such file or directory",
        ),
        (
            ["submit", "digits", "--image", "i:1", "--deploy", "train.memroy=1Gi"],
            "train.memroy: no such field; did you mean 'memory'?",
        ),
        (["submit", "digits", "--image", "i:1", "--deploy", "train"], "--deploy train: write path=value"),
        (
            ["submit", "digits", "--image", "i:1", "--root", "data"],
            "root = 'data': must be a URI that every pod reaches",
        ),
        (["doctor", "--root", "/data"], "root = '/data': must be a URI that every pod reaches"),
        (["status", "--host", "http://h", "--cookie-file", "c"], "--cookie-file = c: No such file"),
        (["compile", "digits", "--image", "i:1", "--output", "p.txt"], "--output = p.txt: must end in .yaml"),
        (["report", "no-such-run"], "holds no run.json"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_wrong_request_gets_one_message_and_exit_code_2(
    arguments: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, err = run(capsys, *arguments)
    assert code == 2
    assert out == ""
    assert err.startswith("optduel: error: ")
    assert message in err
    assert "Traceback" not in err
    assert list(tmp_path.iterdir()) == [], "a refused request leaves nothing behind"


def test_a_run_that_ended_on_its_cluster_before_compare_is_to_be_submitted_again(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "records.json").write_text("{}")  # evaluate puts it there
    code, _, err = run(capsys, "report", str(tmp_path))
    assert code == 2
    assert "ended on its cluster before it was compared; submit it again with the same --root" in err


def test_all_problems_of_an_experiment_are_told_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    _, _, err = run(
        capsys,
        "check",
        "digits",
        "--set",
        "training.epochs=0",
        "--set",
        "study.seeds=[1,1]",
        "--set",
        "modle=3",
    )
    for path in ("training.epochs", "study.seeds", "modle"):
        assert f"\n{path}" in err


WITHOUT_A_LIBRARY = """
import importlib.abc, sys
class Nowhere(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name == "{library}":
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Nowhere())
from optduel.pipeline.cli.command_line import entry
entry()
"""


def run_without(library: str, *arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Runs a command where importing a library fails as it does where it is not installed."""
    return subprocess.run(
        [sys.executable, "-c", WITHOUT_A_LIBRARY.format(library=library), *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("command", ["run digits", "status", "schedule list", "doctor"])
def test_a_library_that_is_not_installed_is_named(command: str, tmp_path: Path) -> None:
    finished = run_without("kfp.pipeline_spec", *command.split(), folder=tmp_path)
    assert (finished.returncode, finished.stdout) == (2, "")
    (line,) = finished.stderr.splitlines()
    assert line.startswith("optduel: error: kfp.pipeline_spec: is not installed here")
    assert list(tmp_path.iterdir()) == []


def test_a_module_of_ours_that_is_missing_keeps_its_traceback(tmp_path: Path) -> None:
    finished = run_without("optduel.pipeline.kfp.following", "status", folder=tmp_path)
    assert finished.returncode == 1
    assert (
        finished.stderr.splitlines()[-1]
        == "ModuleNotFoundError: No module named 'optduel.pipeline.kfp.following'"
    )


@pytest.mark.parametrize("examples", ["0", "-5", "3000000000"])
def test_a_number_of_examples_that_makes_no_sense_is_refused(
    capsys: pytest.CaptureFixture[str], examples: str
) -> None:
    with pytest.raises(SystemExit) as raised:
        main(["show", "digits", "--examples", examples])
    assert raised.value.code == 2
    assert f"{examples}: must be between 1 and 100,000,000" in capsys.readouterr().err


def test_check_names_images_that_are_not_there(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    absent = tmp_path / "photos"
    code, out, _ = run(capsys, "check", "digits", "--set", f"data.source={{kind: folder, path: {absent}}}")
    assert code == 0
    assert f"caution: data.source.path = {absent}: is not on this machine" in out


@pytest.mark.parametrize("command", ["check", "run"])
def test_a_file_that_training_cannot_start_from_is_one_message(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, command: str
) -> None:
    """Before anything is written."""
    path, root = tmp_path / "start.keras", tmp_path / "root"
    path.write_bytes(b"no model")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    model = f"model={{name: pretrained, start: '{path}', sha256: {digest}}}"
    code, _, err = run(
        capsys, command, "digits", "--set", model, *(["--root", str(root)] if command == "run" else [])
    )
    assert code == 2
    assert err.strip().splitlines()[-1].endswith("save it with Keras 3")
    assert f"model.start = {path}: no model in Keras' format (.keras)" in err
    assert not root.exists()


def test_an_answer_that_nobody_reads_ends_as_if_by_its_signal() -> None:
    command = [sys.executable, "-c", "from optduel.pipeline.cli import entry; entry()", "list"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    process.stdout.close()
    assert process.wait(60) == 141
    assert process.stderr is not None
    with process.stderr as told:
        assert told.read() == ""


def test_a_root_without_a_bucket_is_no_local_folder(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code, _, err = run(capsys, "run", "digits", "--root", "s3://")
    assert code == 2
    assert "s3://: what follows s3:// is no bucket's name" in err
    assert list(tmp_path.iterdir()) == []
