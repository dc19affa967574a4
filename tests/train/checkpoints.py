"""Checkpoints whose content follows from their step."""

import numpy as np

from optduel.components.train.loop.checkpoint import Checkpoint


def a_checkpoint(step: int) -> Checkpoint:
    """80 KB, and other bytes for every step."""
    arrays = {"kernel": np.random.default_rng(step).normal(size=(200, 50)), "slot": np.float32([step])}
    return Checkpoint(step, "trial", arrays, {"rows": [step]})


def assert_is(found: Checkpoint | None, step: int) -> None:
    """Compares bit for bit."""
    assert found is not None
    saved = a_checkpoint(step)
    assert (found.step, found.state) == (saved.step, saved.state)
    for name, array in saved.arrays.items():
        assert found.arrays[name].tobytes() == array.tobytes()


def step_file(step: int) -> str:
    """The name that the checkpoint after a step has."""
    return f"step-{step:010d}.npz"
