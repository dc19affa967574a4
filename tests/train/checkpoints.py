"""Checkpoints whose content follows from their step, and what those of a trial hold."""

import hashlib
import io
import json

import numpy as np

from optduel.components.results import Row
from optduel.components.storage import list_entries, read
from optduel.components.train.contract.task import Task
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


def newest(task: Task) -> Checkpoint:
    """A trial's newest checkpoint, whatever trial it belongs to."""
    place = max(entry.uri for entry in list_entries(task.checkpoint_folder))
    with np.load(io.BytesIO(read(place)), allow_pickle=False) as archive:
        arrays = {name: archive[name] for name in archive.files}
    meta = json.loads(bytes(arrays.pop("meta")))
    return Checkpoint(meta["step"], meta["identity"], arrays, meta["state"])


def whole_state(task: Task) -> str:
    """Everything that the newest checkpoint of a trial holds, times aside, as text to compare bit for bit.

    These are the step, weights and slots of every variable, the sums of the epoch, and the history.
    """
    saved = newest(task)
    arrays = {
        name: f"{array.dtype} {array.shape} {hashlib.sha256(array.tobytes()).hexdigest()}"
        for name, array in saved.arrays.items()
    }
    assert any(name.startswith("slot/") for name in arrays), "the state is more than the weights"
    state = {name: value for name, value in saved.state.items() if not name.endswith("seconds")}
    state["rows"] = [Row(**row).reproducible() for row in state["rows"]]
    return json.dumps([saved.step, state, arrays], indent=1, sort_keys=True)
