"""Trials that follow each other in one process: each is the lone one, and nothing is compiled again."""

import gc
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import tensorflow as tf

from optduel.components.core import StoppedError
from optduel.components.results import TunedTrial, read_document, read_history
from optduel.components.train.contract.control import Control
from optduel.components.train.contract.task import Task
from optduel.components.train.loop import loop
from optduel.components.train.model.layers import BatchDropout
from tests.train.conftest import ADAMW, CNN, SGD, reproducible

MakeTask = Callable[..., Task]

HOPELESS = 1e30


def train(task: Task, control: Control | None = None) -> None:
    loop.train(task, tf.distribute.get_strategy(), control or Control(None))


def tuned(task: Task, number: int, seed: int, **values: float) -> Task:
    """A setting of the task's arm, as tuning trains it."""
    own = {"setting": number, "seed": seed, "output": f"{task.output}-{number}-{seed}"}
    one = task.with_setting(values).model_copy(update=own)
    return one.model_copy(update={"result": f"{one.output}.json"})


def lone(task: Task, folder: Path) -> str:
    """The history of a trial of the train stage with the same arm and seed."""
    plain = {"setting": None, "result": None, "output": str(folder / f"lone-{task.setting}-{task.seed}")}
    alone = task.model_copy(update=plain)
    train(alone)
    return reproducible(read_history(alone.history_file))


@pytest.fixture
def traces(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """One for each time that a layer of the model is traced in a training step."""
    calls: list[object] = []
    call = BatchDropout.call

    def counted(self: BatchDropout, inputs: Any, training: bool = False) -> Any:
        calls.append(self)
        return call(self, inputs, training)

    monkeypatch.setattr(BatchDropout, "call", counted)
    return calls


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arm", "settings"),
    [
        (SGD, [{"l2": 0.01}, {"l2": 0, "momentum": 0.5}, {"learning_rate.base": HOPELESS}, {"l2": 0.001}]),
        pytest.param(
            ADAMW,
            [{"weight_decay": 0}, {"beta_1": 0.5, "epsilon": 0.01}, {"learning_rate.factor": 0.5}],
            marks=pytest.mark.exhaustive,
        ),
    ],
    ids=["sgd", "adamw"],
)
def test_each_setting_has_the_history_of_a_lone_trial(
    arm: Mapping[str, Any],
    settings: list[dict[str, float]],
    make_task: MakeTask,
    tmp_path: Path,
    traces: list[object],
) -> None:
    """Of every number, also after a setting that diverged, with seeds that take turns."""
    task = make_task("tuned", arm, CNN, epochs=2)
    trials = [
        tuned(task, number, seed, **values) for number, values in enumerate(settings) for seed in (100, 101)
    ]
    train(trials[0].with_following(trials[1:2], str(tmp_path / "home")))
    before = len(traces)
    train(trials[0].with_following(trials, str(tmp_path / "home")))
    # A worker that starts anew compiles once, whatever the number of settings.
    assert len(traces) == 2 * before
    for trial in trials[::3]:
        told = read_document(trial.record_file, TunedTrial)
        is_hopeless = trial.arm.learning_rate.base == HOPELESS
        assert bool(told.diverged) == is_hopeless
        history = reproducible(read_history(trial.history_file))
        assert history == lone(trial, tmp_path)
        assert len(told.validation) == (0 if is_hopeless else 2)
        assert not Path(trial.model_file).exists()


class StopInTrial(Control):
    """Asks for a stop at a step, counted over all trials."""

    def __init__(self, step: int) -> None:
        super().__init__(None)
        self._at = step

    def report(self, phase: str, step: int) -> None:
        super().report(phase, step)
        if self.progress.step >= self._at:
            self._stop.set()


def test_a_stopped_group_goes_on_with_the_trial_that_it_was_at(
    make_task: MakeTask,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(loop, "TELL_SECONDS", 0)
    task = make_task("tuned", SGD, {"name": "linear"}, epochs=2)
    trials = [tuned(task, number, 100, l2=0.001 * number) for number in range(3)]
    group = trials[0].with_following(trials[1:], str(tmp_path / "home"))
    with pytest.raises(StoppedError):
        train(group, StopInTrial(40 + 25))
    assert [Path(trial.record_file).exists() for trial in trials] == [True, False, False]
    first = Path(trials[0].record_file).stat().st_mtime_ns
    begun: list[int | None] = []
    prepare = loop.Bench.lay_out

    def noted(self: loop.Bench, task: Task, precision: str) -> None:
        begun.append(task.setting)
        prepare(self, task, precision)

    monkeypatch.setattr(loop.Bench, "lay_out", noted)
    capsys.readouterr()
    train(group)
    assert begun == [1, 2]
    assert re.findall(r"(setting \d), seed 100: trained, (.*); (?:\d+) s left", capsys.readouterr().err) == [
        ("setting 1", "2 of the 3 trials of this task"),
        ("setting 2", "3 of the 3 trials of this task"),
    ]
    assert Path(trials[0].record_file).stat().st_mtime_ns == first
    for trial in trials:
        assert reproducible(read_history(trial.history_file)) == lone(trial, tmp_path)


@pytest.mark.exhaustive
def test_two_hundred_settings_need_no_more_memory_than_fifty(make_task: MakeTask, tmp_path: Path) -> None:
    task = make_task("tuned", SGD, {"name": "linear"}, epochs=1)
    trials = [tuned(task, number, 100, l2=0.0001 * number) for number in range(200)]

    def resident() -> int:
        gc.collect()
        return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

    train(trials[0].with_following(trials[1:50], str(tmp_path / "home")))
    before = resident()
    train(trials[50].with_following(trials[51:], str(tmp_path / "home")))
    assert resident() - before < 32 * 2**20
