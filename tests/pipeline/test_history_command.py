"""`optduel history` in process: what was measured, how far runs are apart, which runs there are."""

import csv
import datetime
import io
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from optduel.components.results import (
    IndexedArm,
    Row,
    TrialHistory,
    write_history,
    write_history_table,
    write_index,
)
from optduel.components.storage import join
from optduel.pipeline.cli.command_line import main
from optduel.pipeline.cli.histories import deviation

Answer = tuple[int, str, str]
Ask = Callable[..., Answer]


def rows(epochs: int = 2, **changes: float) -> tuple[Row, ...]:
    found = []
    for epoch in range(1, epochs + 1):
        for event, split in (("step", "train"), ("epoch", "train"), ("epoch", "validation")):
            values: dict[str, Any] = {
                "event": event,
                "split": split,
                "step": 10 * epoch,
                "epoch": epoch,
                "examples": 640,
                "cross_entropy": 1 / epoch,
                "penalty": 0.0,
                "total": 1 / epoch,
                "accuracy": 0.5 if split == "train" else 0.25,
                "learning_rate": 0.1,
                "decay": 1e-4,
                "gradient_norm": 2.0,
                "weight_norm": 3.0,
                "examples_per_second": 1000.0 * epoch,
                "wall_seconds": 1.5 * epoch,
            }
            found.append(Row.model_validate(values | changes))
    return tuple(found)


def trial(run: str, arm: str, seed: int, measured: tuple[Row, ...], fingerprint: str = "7e") -> TrialHistory:
    return TrialHistory(
        run=run,
        experiment="digits",
        fingerprint=fingerprint * 32,
        data_fingerprint="0f" * 32,
        arm=arm,
        seed=seed,
        code_version="1f3a9c0d2b7e",
        started=datetime.datetime(2026, 11, 23, 10, seed),
        precision="float32",
        workers=1,
        replicas=1,
        rows=measured,
    )


def leave(root: str, run: str, *trials: TrialHistory) -> None:
    """What a finished run leaves for this command."""
    write_history_table(join(root, "runs", run, "history.parquet"), trials)
    verdict = {"baseline": "sgd-l2", "p_value": 0.03125, "answer": "shown", "sentence": "adamw is better."}
    verdict |= {"images_answer": "not shown"}
    arms = [
        IndexedArm.model_validate(
            {
                **trials[0].model_dump(include=set(IndexedArm.model_fields) - {"arm"}),
                "title": "Digits",
                "arm": arm,
                "seeds": 1,
                "split": "test",
                "median_accuracy": 0.975,
                "median_cross_entropy": 0.125,
                **(verdict if arm == "adamw" else {}),
            }
        )
        for arm in ("sgd-l2", "adamw")
    ]
    write_index(root, run, arms)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Three runs: `one` and `two` agree but for one value, `other` is of another experiment."""
    place = tmp_path / "root"
    measured = rows()
    last = measured[-1]
    off = (*measured[:-1], last.model_copy(update={"weight_norm": last.weight_norm * (1 + 1e-6)}))
    slower = tuple(row.model_copy(update={"wall_seconds": 99.0}) for row in off)
    leave(str(place), "one", trial("one", "sgd-l2", 0, measured), trial("one", "adamw", 0, measured))
    leave(str(place), "two", trial("two", "sgd-l2", 0, measured), trial("two", "adamw", 0, slower))
    leave(
        place,
        "other",
        trial("other", "sgd-l2", 0, rows(1), "8f"),
        trial("other", "sgd-l2", 1, measured, "8f"),
    )
    return place


@pytest.fixture
def ask(root: Path, capsys: pytest.CaptureFixture[str]) -> Ask:
    def asked(*arguments: str) -> Answer:
        code = main(["history", *arguments, "--root", str(root)])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return asked


def test_help_has_an_example(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["history", "--help"])
    assert stopped.value.code == 0
    assert "example:\n  optduel history" in capsys.readouterr().out


def test_a_run_is_a_line_for_each_trial(ask: Ask) -> None:
    code, out, err = ask("one")
    assert (code, err) == (0, "")
    heading, *lines = out.splitlines()
    assert heading.split()[:5] == ["run", "arm", "seed", "epochs", "train"]
    assert [line.split() for line in lines] == [
        ["one", arm, "0", "2", "0.5000", "50.00", "%", "0.5000", "25.00", "%", "1,500", "3.0"]
        for arm in ("sgd-l2", "adamw")
    ]


@pytest.mark.parametrize("form", ["table", "csv", "json"])
def test_name_folder_and_file_are_the_same_run(form: str, ask: Ask, root: Path) -> None:
    folder = root / "runs" / "one"
    answers = [
        ask(str(place), "--format", form)
        for place in ("one", folder, f"{folder}/", folder / "history.parquet")
    ]
    assert answers == [answers[0]] * 4
    assert answers[0][0] == 0


def test_a_trial_that_diverged_is_told_and_so_is_their_number(root: Path, ask: Ask) -> None:
    lost = trial("lost", "adamw", 0, ()).model_copy(update={"diverged_step": 12})
    leave(str(root), "lost", trial("lost", "sgd-l2", 0, rows()), lost)
    code, out, _ = ask("lost")
    assert code == 0
    heading, finished, diverged = (line.split() for line in out.splitlines())
    at = heading.index("diverged")
    assert heading[at : at + 3] == ["diverged", "at", "step"]
    assert (finished[at], diverged[at]) == ("-", "12")
    assert "diverged" not in ask("one")[1], "no column without a reason"


def test_csv_and_json_say_the_same_in_full(ask: Ask) -> None:
    _, text, _ = ask("one", "--format", "csv")
    _, document, _ = ask("one", "--format", "json")
    records = json.loads(document)
    assert [record["arm"] for record in records] == ["sgd-l2", "adamw"]
    assert records[0]["validation_accuracy"] == 0.25
    assert records[0]["train_cross_entropy"] == 0.5
    assert records[0]["examples_per_second"] == 1500
    assert records[0]["fingerprint"] == "7e" * 32
    assert records[0]["started"] == "2026-11-23T10:00:00"
    assert list(csv.DictReader(io.StringIO(text))) == [
        {name: "" if value is None else str(value) for name, value in record.items()} for record in records
    ]


def test_runs_are_compared_with_the_first_trial_by_trial(ask: Ask) -> None:
    _, document, _ = ask("one", "two", "--format", "json")
    first, _, same, off = json.loads(document)
    assert (first["reference"], first["largest_deviation"]) == (None, None)
    assert (same["reference"], same["same_fingerprint"], same["same_records"]) == ("one", True, True)
    assert (same["largest_deviation"], same["deviating_columns"]) == (0, [])
    assert off["largest_deviation"] == pytest.approx(1e-6, rel=1e-3)
    assert off["deviating_columns"] == ["weight_norm"], "wall time is no part of the comparison"
    assert (off["deviates_most_in"], off["deviates_most_at"]) == ("weight_norm", 20)
    assert (off["compared_rows"], off["unpaired_rows"]) == (6, 0)


def test_comparison_is_told_in_a_sentence(ask: Ask) -> None:
    _, out, _ = ask("one", "two", "other")
    _, against_two, against_other = out.strip().split("\n\n")
    assert against_two == (
        "two against one: same fingerprint, same records; 2 trials, 12 rows compared; "
        "largest relative deviation 1.0e-06 in weight_norm (adamw seed 0, step 20); deviating: weight_norm"
    )
    assert against_other == (
        "other against one: other fingerprint, same records; 1 trial, 3 rows compared; "
        "3 rows in one of the two only; equal in every reproducible column; "
        "other lacks 1 of the other's trials; one lacks 1 of the other's trials"
    )


def test_a_run_equals_its_copy_elsewhere(ask: Ask, root: Path) -> None:
    copy = root / "copy.parquet"
    copy.write_bytes((root / "runs" / "one" / "history.parquet").read_bytes())
    _, out, _ = ask("one", str(copy))
    assert f"{copy} against one: same fingerprint, same records; 2 trials, 12 rows compared; equal" in out


def test_json_lines_of_a_trial_in_training_are_shown_and_compared(ask: Ask, tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("before.jsonl", "after")]
    for path, measured in zip(paths, (rows(2), rows(2)[:4]), strict=True):
        write_history(path, measured)
    code, out, _ = ask(*map(str, paths), "--format", "json")
    finished, training = json.loads(out)
    assert code == 0
    assert (finished["run"], finished["arm"], finished["seed"]) == (str(paths[0]), None, None)
    assert (finished["epochs"], training["epochs"]) == (2, 1)
    assert (training["compared_rows"], training["unpaired_rows"]) == (4, 2)
    assert (training["same_fingerprint"], training["largest_deviation"]) == (None, 0)
    _, table, _ = ask(*map(str, paths))
    assert "unknown fingerprint, unknown records; 1 trial, 4 rows compared; 2 rows in one" in table


def test_a_trial_before_its_first_epoch_has_dashes(ask: Ask, tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    write_history(path, rows(1)[:1])
    _, out, _ = ask(str(path))
    assert out.splitlines()[1].split()[1:] == ["-", "-", "0", "-", "-", "-", "-", "-", "1.5"]


def test_words_begin_in_one_column_and_numbers_end_in_one(ask: Ask) -> None:
    _, out, _ = ask("one")
    heading, *lines = out.splitlines()
    begin = heading.index("arm")
    assert [line[begin - 1 : begin + 1] for line in lines] == [" s", " a"]
    for name in ("seed", "epochs", "examples/s", "seconds"):
        end = heading.index(name) + len(name)
        assert all(line[end - 1].isdigit() and line[end : end + 1] in ("", " ") for line in lines)


def test_without_a_run_the_index_is_listed(ask: Ask) -> None:
    code, out, _ = ask()
    assert code == 0
    assert [line.split()[0] for line in out.splitlines()] == [
        "run",
        *("one",) * 2,
        *("other",) * 2,
        *("two",) * 2,
    ]
    assert out.splitlines()[2].split() == [
        "one",
        "digits",
        "7e" * 6,
        "adamw",
        "1",
        "test",
        "97.50",
        "%",
        "0.1250",
        "0.031",
        "shown",
        "not",
        "shown",
    ]
    _, document, _ = ask("--format", "json")
    assert json.loads(document)[1]["sentence"] == "adamw is better."
    _, text, _ = ask("--format", "csv")
    assert [line["run"] for line in csv.DictReader(io.StringIO(text))] == [
        record["run"] for record in json.loads(document)
    ]


def test_what_cannot_be_read_of_the_index_hides_no_run(ask: Ask, root: Path) -> None:
    (root / "index" / "damaged.parquet").write_bytes(b"PAR1")
    code, out, err = ask("--format", "json")
    assert code == 1, "the answer is not whole"
    assert [record["run"] for record in json.loads(out)] == ["one"] * 2 + ["other"] * 2 + ["two"] * 2
    assert err.startswith(f"left out: {root}/index/damaged.parquet: not a Parquet file, or a damaged one")


HOSTILE = "\x1b[2J\x9b31m\u202e\nrun"


def test_text_from_an_index_does_nothing_to_a_terminal(root: Path, ask: Ask) -> None:
    trials = [trial("hostile", arm, 0, rows()) for arm in ("sgd-l2", "adamw")]
    named = [one.model_copy(update={"experiment": HOSTILE, "code_version": HOSTILE}) for one in trials]
    leave(str(root), "hostile", *named)
    for arguments in ([], ["hostile"], ["one", "hostile"]):
        for form in ("table", "csv", "json"):
            code, out, _ = ask(*arguments, "--format", form)
            assert code == 0
            assert all(character.isprintable() or character == "\n" for character in out)
            if form == "table" and not arguments:
                assert len(out.splitlines()) == 1 + 8, "a line for each arm, and one for the heading"
    _, out, _ = ask("hostile", "--format", "json")
    assert json.loads(out)[0]["experiment"] == HOSTILE, "programs get the text as it is"


@pytest.mark.parametrize("formula", ["=HYPERLINK(1)", "+1", "-1+1", "@SUM(1)", "\t=1", "=1\n=2"])
def test_text_from_an_index_is_no_formula(formula: str, root: Path, ask: Ask) -> None:
    leave(
        str(root), "hostile", trial("hostile", "sgd-l2", 0, rows()).model_copy(update={"experiment": formula})
    )
    _, out, _ = ask("--format", "csv")
    told = {line["experiment"] for line in csv.DictReader(io.StringIO(out)) if line["run"] == "hostile"}
    assert not any(text.lstrip().startswith(("=", "+", "-", "@")) for text in told)
    assert len(told) == 1


def test_a_root_without_runs_is_no_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for form, expected in (
        ("table", f"no run below {tmp_path} has finished yet\n"),
        ("json", "[]\n"),
        ("csv", ""),
    ):
        assert main(["history", "--root", str(tmp_path), "--format", form]) == 0
        assert capsys.readouterr().out == expected


def unfinished(root: Path) -> str:
    record = root / "runs" / "broken" / "run.json"
    record.parent.mkdir()
    record.write_text("{}")
    return "broken"


def written(name: str, content: bytes) -> Callable[[Path], str]:
    def write(root: Path) -> str:
        (root / name).write_bytes(content)
        return str(root / name)

    return write


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda root: "twoo",
            "RUN = twoo: is neither a history file, nor the folder of a run, nor the name of one below",
        ),
        (lambda root: "twoo", "did you mean 'two'?"),
        (lambda root: "nothing-alike", "`optduel history` lists those"),
        (lambda root: "..", "RUN = ..: is neither a history file"),
        (lambda root: "", "RUN = : is neither a history file"),
        (lambda root: str(root), "is neither a history file, nor the folder of a run"),
        (lambda root: "ftp://host/run", "ftp://host/run: has a scheme that is not supported"),
        (unfinished, "RUN = broken: has no history.parquet, which a run leaves when its arms are compared"),
        (written("a.jsonl", b"{}\n"), "a.jsonl, line 1: not a row of a history"),
        (written("a.jsonl", b""), "a.jsonl: holds no rows yet"),
        (written("a.parquet", b"PAR1PAR1"), "a.parquet: not a Parquet file, or a damaged one"),
    ],
    ids=[
        "typo",
        "near miss",
        "far off",
        "parent",
        "empty",
        "folder",
        "scheme",
        "unfinished",
        "json",
        "no rows",
        "damaged",
    ],
)
def test_a_bad_run_is_one_message(make: Callable[[Path], str], message: str, ask: Ask, root: Path) -> None:
    code, out, err = ask("one", make(root))
    assert code == 2
    assert out == "", "no half of an answer"
    assert err.startswith("optduel: error: ")
    assert message in err
    assert err.count("optduel: error:") == 1
    assert "Traceback" not in err


def test_deviation_is_relative_to_the_larger_value() -> None:
    reference, other = rows(1), rows(1, gradient_norm=-2.0, penalty=1e-30)
    found = deviation(reference, other)
    assert found.largest_deviation == 2
    assert (found.deviates_most_in, found.deviates_most_at) == ("gradient_norm", 10)
    assert set(found.deviating_columns) == {"gradient_norm", "penalty"}
    assert deviation(other, reference).largest_deviation == 2


def test_nothing_in_common_is_no_agreement() -> None:
    found = deviation((), rows(1))
    assert (found.compared_rows, found.unpaired_rows, found.largest_deviation) == (0, 3, None)


def test_the_smallest_difference_counts() -> None:
    value = rows(1)[0].weight_norm
    found = deviation(rows(1), rows(1, weight_norm=math.nextafter(value, 4)))
    assert found.largest_deviation == pytest.approx(1.5e-16, rel=0.1)
