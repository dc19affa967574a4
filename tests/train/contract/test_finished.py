"""A trial that is finished is taken over; whatever else lies there is trained again."""

import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from optduel.components.core import LaunchError
from optduel.components.records import Records
from optduel.components.results import (
    Divergence,
    TrainingRecord,
    code_version,
    environment,
    now,
    read_document,
    write_document,
    write_history,
)
from optduel.components.results.history import Row
from optduel.components.settings import canonical_json
from optduel.components.storage import delete, join, list_entries, publish, read
from optduel.components.train.contract.task import Task
from optduel.components.train.stage import train_trials
from tests.servers.places import PlaceOf

MODEL = b"the trained model"


@pytest.fixture(autouse=True)
def of_a_commit(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Code whose commit is known, whatever state the checkout is in."""
    monkeypatch.setenv("OPTDUEL_CODE_VERSION", "abc123")
    code_version.cache_clear()
    yield
    code_version.cache_clear()


def row(split: str, step: int) -> Row:
    return Row(
        event="epoch",
        split=split,
        step=step,
        epoch=1,
        examples=10,
        cross_entropy=1.0,
        penalty=0.0,
        total=1.0,
        accuracy=0.5,
        learning_rate=0.1,
        decay=0.0,
        gradient_norm=1.0,
        weight_norm=1.0,
        examples_per_second=9.0,
        wall_seconds=1.0,
    )


class Trainer:
    """A launcher whose workers are quick: what they leave is what a finished trial leaves."""

    def __init__(self) -> None:
        self.trained = 0

    def run(self, task: Task) -> None:
        self.trained += 1
        publish(task.model_file, MODEL)
        write_history(task.history_file, [row("train", 1), row("validation", 1)])
        publish(join(task.events_folder, "chief/events.1"), b"events")
        record = TrainingRecord(
            arm=task.arm.name,
            seed=task.seed,
            fingerprint=task.fingerprint,
            data_fingerprint=task.records.manifest.fingerprint,
            model_sha256=hashlib.sha256(MODEL).hexdigest(),
            parameters=1,
            precision="float32",
            workers=1,
            replicas=1,
            started=now(),
            seconds=1.0,
            environment=environment(),
        )
        write_document(task.record_file, record)


class Diverging(Trainer):
    """Leaves what a trial leaves that diverged in its second epoch."""

    def run(self, task: Task) -> None:
        super().run(task)
        trained = read_document(task.record_file, TrainingRecord).model_dump(
            exclude={"status", "model_sha256"}
        )
        ended = {"epoch": 2, "step": 9, "reason": "validation loss"}
        write_document(task.record_file, Divergence.model_validate(trained | ended))
        delete(task.model_file)


class Together:
    """A launcher of several trials, each of which leaves what one of these would."""

    def __init__(self, launchers: list[Trainer]) -> None:
        self._launchers = launchers

    def run(self, task: Task) -> None:
        for launcher, trial in zip(self._launchers, task.trials, strict=True):
            launcher.run(trial)


class Refusing:
    """A launcher for a trial that nobody has to train."""

    def run(self, task: Task) -> None:
        raise LaunchError(f"{task.name}: was trained again")


@pytest.fixture(params=["local", "gs", "s3"])
def root(request: pytest.FixtureRequest, tmp_path: Path, place_of: PlaceOf) -> str:
    return str(tmp_path / "root") if request.param == "local" else place_of(request.param).root


@pytest.fixture
def local_root(tmp_path: Path) -> str:
    return str(tmp_path / "root")


SECTIONS: dict[str, dict[str, object]] = {
    "model": {"name": "linear"},
    "arm": {
        "name": "sgd-l2",
        "optimizer": "sgd",
        "l2": 0.001,
        "learning_rate": {"schedule": "constant", "base": 0.1},
    },
    "training": {"epochs": 1, "global_batch_size": 64},
    "compute": {},
}

Train = Callable[..., dict[str, float]]


@pytest.fixture
def train(records: Records, tmp_path: Path) -> Train:
    """The stage's one call, for one small trial."""
    (tmp_path / "records.json").write_text(records.canonical_json(), encoding="utf-8")

    def call(root: str, models: str, launcher: object, seed: int = 0, rate: float = 0.1) -> dict[str, float]:
        arm = SECTIONS["arm"] | {"learning_rate": {"schedule": "constant", "base": rate}}
        sections = canonical_json(SECTIONS | {"arm": arm})
        files = tmp_path / "records.json", join(root, models), tmp_path / "metrics.json"
        return train_trials(sections, "", f"[{seed}]", root, *files, lambda _: launcher)

    return call


def content(folder: str) -> dict[str, bytes]:
    return {entry.uri.removeprefix(f"{folder}/"): read(entry.uri) for entry in list_entries(folder)}


def test_a_finished_trial_of_an_earlier_run_is_taken_over(
    train: Train, root: str, capsys: pytest.CaptureFixture[str]
) -> None:
    first = train(root, "runs/one", Trainer())
    second = train(root, "runs/two", Refusing())
    assert second == first
    assert content(join(root, "runs/two/seed-0")) == content(join(root, "runs/one/seed-0"))
    assert f"takes over {join(root, 'runs/one/seed-0')}, trained " in capsys.readouterr().err


def test_a_trial_that_diverged_is_taken_over_too(train: Train, root: str) -> None:
    assert train(root, "runs/one", Diverging()) == {"diverged": 1.0}
    assert train(root, "runs/two", Refusing()) == {"diverged": 1.0}
    assert content(join(root, "runs/two/seed-0")) == content(join(root, "runs/one/seed-0"))
    assert train(root, "runs/two", Refusing()) == {"diverged": 1.0}


def test_of_several_trials_those_that_diverged_are_counted_and_not_averaged(
    train: Train, local_root: str, tmp_path: Path
) -> None:
    def numbers(name: str, launchers: list[Trainer]) -> dict[str, float]:
        seeds = json.dumps(list(range(len(launchers))))
        files = tmp_path / "records.json", join(local_root, name), tmp_path / "metrics.json"
        sections = canonical_json(SECTIONS)
        found = train_trials(sections, "", seeds, "", *files, lambda _: Together(launchers))
        assert json.loads(files[2].read_text()) == found
        return found

    some = numbers("some", [Trainer(), Diverging(), Trainer(), Diverging()])
    assert some == numbers("none", [Trainer(), Trainer()]) | {
        "diverged": 2.0,
        "training_seconds": some["training_seconds"],
    }
    assert numbers("all", [Diverging(), Diverging()]) == {"diverged": 2.0}


def test_a_trial_that_is_complete_in_its_own_output_is_not_trained_again(
    train: Train, local_root: str
) -> None:
    """As after a pod that was lost when its trial was complete and its checkpoints discarded."""
    first = train(local_root, "runs/one", Trainer())
    for entry in list_entries(join(local_root, "trials")):
        Path(entry.uri).unlink()
    assert train(local_root, "runs/one", Refusing()) == first


@pytest.mark.parametrize("changed", [{"seed": 1}, {"rate": 0.2}])
def test_another_trial_is_trained(train: Train, local_root: str, changed: dict[str, float]) -> None:
    train(local_root, "runs/one", Trainer())
    trainer = Trainer()
    train(local_root, "runs/two", trainer, **changed)
    assert trainer.trained == 1


@pytest.mark.parametrize("version", ["def456", "abc123-modified"])
def test_a_trial_of_other_code_is_trained(
    train: Train, local_root: str, monkeypatch: pytest.MonkeyPatch, version: str
) -> None:
    train(local_root, "runs/one", Trainer())
    monkeypatch.setenv("OPTDUEL_CODE_VERSION", version)
    code_version.cache_clear()
    trainer = Trainer()
    train(local_root, "runs/two", trainer)
    assert trainer.trained == 1


def test_trials_of_modified_code_are_not_taken_over(
    train: Train, local_root: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What "abc123-modified" was yesterday nobody knows."""
    monkeypatch.setenv("OPTDUEL_CODE_VERSION", "abc123-modified")
    code_version.cache_clear()
    train(local_root, "runs/one", Trainer())
    assert list_entries(join(local_root, "trials")) == []
    trainer = Trainer()
    train(local_root, "runs/two", trainer)
    assert trainer.trained == 1


def pointer(root: str) -> Path:
    (entry,) = list_entries(join(root, "trials"))
    return Path(entry.uri)


def other_pointer(text: str) -> Callable[[str], None]:
    return lambda root: pointer(root).write_bytes(text.encode("utf-8", "surrogateescape"))


def change_model(root: str) -> None:
    Path(root, "runs/one/seed-0/model.keras").write_bytes(b"another model")


def remove_run(root: str) -> None:
    for entry in list_entries(join(root, "runs/one")):
        Path(entry.uri).unlink()


def another_trial(root: str) -> None:
    path = Path(root, "runs/one/seed-0/training.json")
    path.write_text(json.dumps(json.loads(path.read_text()) | {"fingerprint": "0" * 64}))


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (change_model, "model.keras: sha256 = "),
        (remove_run, "the trial that lay there is gone"),
        (another_trial, "is of another trial"),
        (other_pointer(""), "not JSON"),
        (other_pointer("\udcff"), "trains again"),
        (other_pointer("[" * 100_000), "not JSON"),
        (other_pointer('{"output": "../../etc", "model_sha256": ""}'), "must be a folder below the root"),
        (other_pointer('{"output": "/etc", "model_sha256": ""}'), "must be a folder below the root"),
        (other_pointer('{"output": "", "model_sha256": ""}'), "must be a folder below the root"),
        (other_pointer('{"output": "runs/one/seed-0", "model_sha256": null}'), "was changed since"),
    ],
)
def test_what_is_no_whole_trial_is_trained_again_and_said(
    train: Train,
    local_root: str,
    capsys: pytest.CaptureFixture[str],
    damage: Callable[[str], None],
    told: str,
) -> None:
    train(local_root, "runs/one", Trainer())
    damage(local_root)
    trainer = Trainer()
    train(local_root, "runs/two", trainer)
    assert trainer.trained == 1
    said = capsys.readouterr().err
    assert "train sgd-l2, seed 0: trains again: " in said
    assert told in said
    train(local_root, "runs/three", Refusing())  # the new one is found from now on


def test_a_damaged_record_in_the_own_output_is_trained_again(train: Train, local_root: str) -> None:
    train(local_root, "runs/one", Trainer())
    Path(local_root, "runs/one/seed-0/training.json").write_text("{}")
    remove = list_entries(join(local_root, "trials"))
    for entry in remove:
        Path(entry.uri).unlink()
    trainer = Trainer()
    train(local_root, "runs/one", trainer)
    assert trainer.trained == 1


def test_a_copy_that_was_cut_off_is_no_trial(train: Train, local_root: str, records: Records) -> None:
    """The record appears last: without it an output is not complete, whatever else lies there."""
    train(local_root, "runs/one", Trainer())
    output = join(local_root, "runs/two/seed-0")
    publish(join(output, "model.keras"), MODEL[:3])
    train(local_root, "runs/two", Refusing())
    assert content(output) == content(join(local_root, "runs/one/seed-0"))


def test_a_root_where_trials_cannot_be_written_down_costs_no_trial(
    train: Train, local_root: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """As where the folder is another user's: what is trained is trained."""
    Path(local_root).mkdir()
    Path(local_root, "trials").write_text("in the way")
    trainer = Trainer()
    first = train(local_root, "runs/one", trainer)
    assert train(local_root, "runs/one", Refusing()) == first
    told = capsys.readouterr().err
    assert f"train sgd-l2, seed 0: later runs will train this trial again: {local_root}/trials" in told


def test_a_trial_that_cannot_be_read_ever_is_trained_again(train: Train, local_root: str) -> None:
    """A loop of links stands for a file of another user, which tests of root could read."""
    train(local_root, "runs/one", Trainer())
    model = Path(local_root, "runs/one/seed-0/model.keras")
    model.unlink()
    model.symlink_to(model)
    trainer = Trainer()
    train(local_root, "runs/two", trainer)
    assert trainer.trained == 1
