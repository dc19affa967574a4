import numpy as np
import pytest

from optduel.components.settings import (
    ConstantSchedule,
    CosineSchedule,
    ExponentialSchedule,
    Schedule,
    StepSchedule,
    learning_rate,
)


@pytest.mark.parametrize(
    "schedule",
    [
        ConstantSchedule(base=0.1, warmup_epochs=1.5),
        CosineSchedule(base=0.1, warmup_epochs=1, final_fraction=0.01),
        ExponentialSchedule(base=0.1, warmup_epochs=0.5, factor_per_epoch=0.7),
        StepSchedule(base=0.1, warmup_epochs=1, boundaries_epochs=(2, 3.5), factor=0.1),
    ],
    ids=lambda schedule: schedule.schedule,
)
def test_training_gets_the_rates_that_the_report_shows(schedule: Schedule) -> None:
    import tensorflow as tf
    from keras import ops

    steps = np.arange(5 * 7, dtype=np.float64)
    expected = learning_rate(schedule, steps, 7, len(steps), np)

    @tf.function(input_signature=[tf.TensorSpec([], tf.float32)])
    def traced(step: tf.Tensor) -> tf.Tensor:
        return learning_rate(schedule, step, 7, len(steps), ops)

    actual = [float(traced(tf.constant(step, tf.float32))) for step in steps]
    # Rates in float32; the cosine cancels at its end, where only the base's precision is left.
    assert actual == pytest.approx(expected, rel=1e-5, abs=1e-7 * schedule.base)
