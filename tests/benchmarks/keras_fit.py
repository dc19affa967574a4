"""Keras' `fit` on images that lie decoded in memory: the tutorial's model without its input pipeline."""

from pathlib import Path
from typing import Any

import keras
import numpy as np

from tests.benchmarks.keras_clock import KerasClock
from tests.benchmarks.tutorial_script import BATCH_SIZE, compile_model, network


def run(
    seed: int, folder: Path, arrays: str, epochs: int, precision: str, is_validated: bool
) -> dict[str, Any]:
    """Trains on the arrays that `workload` saved; `precision` is a Keras dtype policy."""
    keras.config.set_dtype_policy(precision)
    keras.utils.set_random_seed(seed)
    train, validation = (_load(Path(arrays), split) for split in ("train", "validation"))
    pixels = [keras.Input(train[0].shape[1:], dtype="uint8"), keras.layers.Rescaling(1 / 255)]
    model = keras.Sequential([*pixels, *network()])
    compile_model(model)
    clock = KerasClock(len(train[0]))
    model.fit(
        *train,
        batch_size=BATCH_SIZE,
        epochs=epochs,
        validation_data=validation if is_validated else None,
        callbacks=[clock],
        verbose=2,
    )
    return clock.result()


def _load(folder: Path, split: str) -> tuple[np.ndarray, np.ndarray]:
    return np.load(folder / f"{split}-images.npy"), np.load(folder / f"{split}-labels.npy")
