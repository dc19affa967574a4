"""What a checkpoint remembers of the loop."""

import json
import time

from optduel.components.results import Row
from optduel.components.settings import EarlyStopping, Training
from optduel.components.train.loop.state import State
from optduel.components.train.model.engine import Totals

ROW = Row(
    event="step",
    split="train",
    step=1,
    epoch=1,
    examples=64,
    cross_entropy=0.1 + 0.2,
    penalty=0.1,
    total=0.4,
    accuracy=0.5,
    learning_rate=0.1,
    decay=0.1,
    gradient_norm=1 / 3,
    weight_norm=1.0,
    examples_per_second=10.0,
    wall_seconds=1.0,
)


def test_a_state_comes_back_to_the_last_bit() -> None:
    sums = Totals(cross_entropy=0.1 + 0.2, correct=3.0, examples=5.0, penalty=1 / 3, steps=2)
    state = State(7, 1, sums, Totals(), 0.5, 1.5, 2.5, [ROW, ROW.model_copy(update={"step": 2})])
    values = json.loads(json.dumps(state.to_json(9.25)))
    state.wall_seconds = 9.25
    assert State.from_json(values) == state


def test_a_long_history_does_not_hold_training_up() -> None:
    state = State(rows=[ROW.model_copy() for _ in range(10_000)])
    began = time.process_time()
    state.to_json(0.0)
    assert time.process_time() - began < 0.05


def test_later_rows_do_not_reach_what_is_being_saved() -> None:
    state = State(rows=[ROW])
    values = state.to_json(0.0)
    state.rows.append(ROW)
    assert len(values["rows"]) == 1


def validated(epoch: int, accuracy: float) -> Row:
    return ROW.model_copy(
        update={"event": "epoch", "split": "validation", "epoch": epoch, "accuracy": accuracy}
    )


def test_a_trial_ends_when_it_no_longer_improves() -> None:
    """And knows so again after its state was saved."""
    rule = EarlyStopping(metric="accuracy", patience=2, min_change=0.01)
    training = Training(epochs=9, global_batch_size=1, early_stopping=rule)
    state = State()
    best, over = [], []
    for epoch, accuracy in enumerate((0.5, 0.6, 0.605, 0.7, 0.69, 0.705, 0.9), start=1):
        assert not state.is_over(training)
        state.rows.append(validated(epoch, accuracy))
        state.close_epoch()
        best.append(state.is_best(rule))
        over.append(state.is_over(training))
        state = State.from_json(json.loads(json.dumps(state.to_json(0.0))))
        if state.is_over(training):
            break
    assert best == [True, True, False, True, False, False]
    assert over == [False, False, False, False, False, True]
    assert state.best_epoch == 4


def test_without_early_stopping_a_trial_trains_all_epochs() -> None:
    training = Training(epochs=2, global_batch_size=1)
    assert [State(epochs=epochs).is_over(training) for epochs in (0, 1, 2)] == [False, False, True]
