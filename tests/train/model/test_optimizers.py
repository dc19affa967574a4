"""The optimizers against independent arithmetic: the paper's algorithms in NumPy, and Keras' own classes."""

from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from optduel.components.settings import (
    AdamArm,
    AdamwArm,
    Arm,
    Model,
    SgdArm,
    SgdwArm,
    learning_rate,
    validate,
)
from optduel.components.train.model.models import MODELS, build_model
from optduel.components.train.model.optimizers import OPTIMIZERS, Optimizer

STEPS = 50
EPOCH_STEPS = 10
Array = NDArray[np.float64]

SCHEDULES: list[dict[str, Any]] = [
    {"schedule": "constant", "base": 0.01},
    {"schedule": "cosine", "base": 0.01, "warmup_epochs": 1},
]
STRENGTHS: dict[str, dict[str, Any]] = {
    "sgd": {"l2": 0.01},
    "sgdw": {"weight_decay": 0.3, "nesterov": True},
    "adam": {"l2": 0.01},
    "adamw": {"weight_decay": 0.3},
}


def arm_of(optimizer: str, **fields: Any) -> Arm:
    authored = {"name": "arm", "optimizer": optimizer, "learning_rate": SCHEDULES[1], **fields}
    return validate(Arm, authored, "arm")


def quadratic(seed: int) -> tuple[Array, Array, Array]:
    """Curvatures, targets and a start: the gradient at w is curvature * (w - target)."""
    generator = np.random.default_rng(seed)
    return generator.uniform(0.5, 2, 7), generator.normal(0, 1, 7), generator.normal(0, 1, 7)


def reference(arm: Arm, seed: int) -> Array:
    """Algorithms 1 and 2 of arXiv 1711.05101 in float64, in Keras' convention.

    That is: the gradient of the L2 term l2 * sum(w^2) is 2 * l2 * w; decay is multiplied by the scheduled
    learning rate, lambda = rate * weight_decay; epsilon is added before the bias correction ("epsilon hat").
    """
    curvature, target, w = quadratic(seed)
    first, second = np.zeros_like(w), np.zeros_like(w)
    for step in range(STEPS):
        rate = float(learning_rate(arm.learning_rate, np.array(step, float), EPOCH_STEPS, STEPS))
        gradient = curvature * (w - target)
        decay = 0.0
        if isinstance(arm, SgdArm | AdamArm):
            gradient = gradient + 2 * arm.l2 * w
        else:
            decay = rate * arm.weight_decay
        old = w
        if isinstance(arm, SgdArm | SgdwArm):
            first = arm.momentum * first - rate * gradient
            w = w + (arm.momentum * first - rate * gradient if arm.nesterov else first)
        else:
            first = arm.beta_1 * first + (1 - arm.beta_1) * gradient
            second = arm.beta_2 * second + (1 - arm.beta_2) * gradient**2
            corrected = rate * np.sqrt(1 - arm.beta_2 ** (step + 1)) / (1 - arm.beta_1 ** (step + 1))
            w = w - corrected * first / (np.sqrt(second) + arm.epsilon)
        w = w - decay * old
    return w


def ours(arm: Arm, seed: int, dtype: str = "float64", name: str = "kernel") -> Array:
    curvature, target, start = (tf.constant(values, dtype) for values in quadratic(seed))
    variable = keras.Variable(start, dtype=dtype, name=name)
    optimizer = Optimizer(arm, [variable], EPOCH_STEPS, STEPS)

    @tf.function
    def step(number: tf.Tensor, row: tf.Tensor) -> None:
        gradient = curvature * (variable.value - target)
        numbers = optimizer.named(row)
        tf.distribute.get_strategy().run(
            lambda: optimizer.apply(optimizer.add_penalty_gradients([gradient], numbers), number, numbers)
        )

    for number in range(STEPS):
        step(tf.constant(number, tf.float64), tf.constant(optimizer.numbers(number, 1)[0]))
    return np.asarray(variable.numpy(), np.float64)


@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda schedule: schedule["schedule"])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_fifty_steps_equal_the_papers_algorithms(optimizer: str, schedule: dict[str, Any]) -> None:
    arm = arm_of(optimizer, learning_rate=schedule, **STRENGTHS[optimizer])
    np.testing.assert_allclose(ours(arm, 1), reference(arm, 1), rtol=1e-9)
    # Weights near zero have no relative precision, so float32 is held to the norm of the weights.
    error = np.linalg.norm(ours(arm, 1, "float32") - reference(arm, 1))
    assert error <= 1e-6 * np.linalg.norm(reference(arm, 1))


def keras_optimizer(arm: Arm) -> keras.optimizers.Optimizer:
    rate = arm.learning_rate.base
    match arm:
        case SgdArm():
            return keras.optimizers.SGD(rate, arm.momentum, arm.nesterov)
        case SgdwArm():
            return keras.optimizers.SGD(rate, arm.momentum, arm.nesterov, weight_decay=arm.weight_decay)
        case AdamArm():
            return keras.optimizers.Adam(rate, arm.beta_1, arm.beta_2, arm.epsilon)
        case AdamwArm():
            return keras.optimizers.AdamW(rate, arm.weight_decay, arm.beta_1, arm.beta_2, arm.epsilon)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_fifty_steps_equal_keras_own_optimizer(optimizer: str) -> None:
    arm = arm_of(optimizer, **STRENGTHS[optimizer] | {"learning_rate": SCHEDULES[0]})
    curvature, target, start = (tf.constant(values, "float64") for values in quadratic(2))
    variable = keras.Variable(start, dtype="float64", name="kernel")
    theirs = keras_optimizer(arm)
    coefficient = arm.l2 if isinstance(arm, SgdArm | AdamArm) else 0.0
    for _ in range(STEPS):
        with tf.GradientTape() as tape:
            error = variable.value - target
            loss = tf.reduce_sum(curvature * error * error) / 2
            loss += coefficient * tf.reduce_sum(variable.value**2)
        theirs.apply(tape.gradient(loss, [variable.value]), [variable])
    # Keras holds rates and betas in float32: 1 - 0.999 is wrong by 1.3e-5 there.
    error = np.linalg.norm(ours(arm, 2) - variable.numpy())
    assert error <= 1e-5 * np.linalg.norm(variable.numpy())


@settings(max_examples=15)
@given(st.floats(0, 0.3), st.integers(0, 10_000))
def test_l2_equals_decoupled_decay_of_twice_its_size_for_plain_sgd(l2: float, seed: int) -> None:
    """Proposition 1 of the paper: lambda' = lambda / rate, and Keras' l2 has no factor one half."""
    coupled = ours(arm_of("sgd", momentum=0, l2=l2), seed)
    decoupled = ours(arm_of("sgdw", momentum=0, weight_decay=2 * l2), seed)
    np.testing.assert_allclose(coupled, decoupled, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("l2", [1e-3, 1e-2, 1e-1])
def test_no_decoupled_decay_equals_l2_for_adam(l2: float) -> None:
    """Proposition 2: whatever the decay, some weight ends elsewhere."""
    coupled = ours(arm_of("adam", l2=l2), 3)
    distances = [
        np.abs(ours(arm_of("adamw", weight_decay=decay), 3) - coupled).max()
        for decay in (0.0, *np.geomspace(1e-4, 10, 11))
    ]
    assert min(distances) > 1e-5


def test_l2_and_decay_differ_under_momentum() -> None:
    coupled = ours(arm_of("sgd", l2=0.1), 4)
    decoupled = ours(arm_of("sgdw", weight_decay=0.2), 4)
    assert np.abs(coupled - decoupled).max() > 1e-3


@pytest.mark.parametrize(("decoupled", "plain"), [("adamw", "adam"), ("sgdw", "sgd")])
def test_without_decay_the_decoupled_form_is_the_plain_one_bit_for_bit(decoupled: str, plain: str) -> None:
    with_zero = ours(arm_of(decoupled, weight_decay=0), 5, "float32")
    without = ours(arm_of(plain, l2=0), 5, "float32")
    assert with_zero.tobytes() == without.tobytes()


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize(
    ("name", "kind"), [("bias", "bias"), ("gamma", "normalization"), ("beta", "normalization")]
)
def test_biases_and_normalization_are_decayed_only_when_asked(optimizer: str, name: str, kind: str) -> None:
    strength = {"l2": 0.01} if optimizer in ("sgd", "adam") else {"weight_decay": 0.3}
    plain = ours(arm_of(optimizer), 6, name=name)
    spared = ours(arm_of(optimizer, **strength), 6, name=name)
    asked = ours(arm_of(optimizer, decayed=["kernel", kind], **strength), 6, name=name)
    np.testing.assert_array_equal(spared, plain)
    assert np.abs(asked - plain).max() > 1e-4


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_penalty_and_its_gradient_belong_together(optimizer: str) -> None:
    arm = arm_of(optimizer, **STRENGTHS[optimizer])
    weights = [
        keras.Variable(np.arange(4.0), dtype="float64", name="kernel"),
        keras.Variable(np.arange(3.0), dtype="float64", name="bias"),
    ]
    subject = Optimizer(arm, weights, EPOCH_STEPS, STEPS)
    numbers = subject.named(tf.constant(subject.numbers(0, 1)[0]))
    with tf.GradientTape() as tape:
        penalty = subject.penalty(numbers, subject.variables)
    expected = tape.gradient(
        penalty, [weight.value for weight in weights], unconnected_gradients=tf.UnconnectedGradients.ZERO
    )
    added = subject.add_penalty_gradients([tf.zeros_like(weight.value) for weight in weights], numbers)
    for gradient, derivative in zip(added, expected, strict=True):
        np.testing.assert_allclose(gradient, derivative)
    assert float(penalty) == pytest.approx(STRENGTHS[optimizer].get("l2", 0) * 14)


@pytest.mark.parametrize("model", sorted(set(MODELS) - {"pretrained"}))  # which is whatever its file holds
def test_every_weight_of_every_model_has_a_kind(model: str) -> None:
    built = build_model(validate(Model, {"name": model}, "model"), (8, 8, 1), 3)
    subject = Optimizer(arm_of("adamw"), built.trainable_variables, EPOCH_STEPS, STEPS)
    decayed = [
        path.path for path, flag in zip(built.trainable_variables, subject.decayed, strict=True) if flag
    ]
    assert decayed
    assert all(path.endswith("/kernel") for path in decayed)


def test_unknown_kind_of_weight_is_refused() -> None:
    odd = keras.Variable([1.0], name="embeddings")
    with pytest.raises(ValueError, match="embeddings"):
        Optimizer(arm_of("sgd"), [odd], EPOCH_STEPS, STEPS)
