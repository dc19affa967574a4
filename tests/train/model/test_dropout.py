"""Dropout masks follow from seed, step, layer and place in the batch, and from nothing else."""

import numpy as np
import pytest
import tensorflow as tf

from optduel.components.train.model.layers import Batch, BatchDropout

RATE = 0.4
FEATURES = 50


def masks(
    places: list[int], seed: int = 1, step: int = 3, batch_size: int = 40, layers: int = 1
) -> np.ndarray:
    """What the last of `layers` layers makes of ones: float32 [places, FEATURES]."""
    batch = Batch(*(tf.constant(one, tf.int64) for one in (seed, step, places, batch_size)))
    ones = tf.ones((len(places), FEATURES))
    with BatchDropout.batch(batch):
        return [np.asarray(BatchDropout(RATE)(ones, training=True)) for _ in range(layers)][-1]


def test_mask_of_an_example_does_not_depend_on_who_else_is_at_hand() -> None:
    whole = masks(list(range(40)))
    np.testing.assert_array_equal(masks(list(range(1, 40, 2))), whole[1::2])
    np.testing.assert_array_equal(masks([7]), whole[[7]])


@pytest.mark.parametrize("change", [{"seed": 2}, {"step": 4}, {"layers": 2}])
def test_masks_differ_by_seed_step_and_layer(change: dict[str, int]) -> None:
    places = list(range(40))
    assert (masks(places, **change) != masks(places)).mean() > 0.3


def test_rate_of_the_units_is_dropped_and_the_rest_scaled() -> None:
    made = masks(list(range(40)))
    assert set(np.unique(made)) == {np.float32(0), np.float32(1 / (1 - RATE))}
    # 2,000 draws: four standard deviations of the dropped fraction are 0.044.
    assert (made == 0).mean() == pytest.approx(RATE, abs=0.044)


def test_nothing_is_dropped_outside_of_training() -> None:
    ones = tf.ones((2, FEATURES))
    np.testing.assert_array_equal(BatchDropout(RATE)(ones, training=False), ones)
    np.testing.assert_array_equal(BatchDropout(RATE)(ones, training=True), ones)


def test_replica_without_examples_gets_an_empty_mask() -> None:
    assert masks([]).shape == (0, FEATURES)
