"""What a checkpoint remembers of the loop."""

import json
import time

from optduel.components.results import Row
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
