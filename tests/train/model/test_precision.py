"""What `precision: auto` chooses, and that a stated precision is taken as it is."""

import pytest
import tensorflow as tf

from optduel.components.train.model.precision import choose_precision, resolve_precision


@pytest.mark.parametrize(
    ("flags", "capabilities", "chosen"),
    [
        ({"avx2", "avx512_bf16"}, [], "mixed_bfloat16"),
        ({"amx_bf16"}, [], "mixed_bfloat16"),
        ({"avx2", "avx512f"}, [], "float32"),
        (set(), [], "float32"),
        ({"avx512_bf16"}, [(7, 5)], "float32"),
        (set(), [(8, 0), (9, 0)], "mixed_bfloat16"),
        (set(), [(9, 0), (7, 0)], "float32"),
    ],
)
def test_bfloat16_is_chosen_where_every_training_device_has_it(
    flags: set[str], capabilities: list[tuple[int, int]], chosen: str
) -> None:
    assert choose_precision(flags, capabilities) == chosen


@pytest.mark.parametrize("precision", ["float32", "mixed_bfloat16"])
def test_stated_precision_is_taken_as_it_is(precision: str) -> None:
    assert resolve_precision(precision, tf.distribute.get_strategy()) == precision


def test_auto_is_one_of_the_two() -> None:
    assert resolve_precision("auto", tf.distribute.get_strategy()) in {"float32", "mixed_bfloat16"}
