"""Keras' `fit` on images that lie decoded in memory: the network without an input pipeline."""

from pathlib import Path
from typing import Any

import keras
import numpy as np

from optduel.components.settings import ResnetModel
from optduel.components.train.model.models import build_model
from tests.benchmarks.keras_clock import KerasClock
from tests.benchmarks.tutorial_script import BATCH_SIZE, compile_model, network
from tests.benchmarks.workload import CLASSES


def run(
    seed: int, folder: Path, arrays: str, epochs: int, precision: str, is_validated: bool, depth: int = 0
) -> dict[str, Any]:
    """Trains on the arrays that `workload` saved.

    Args:
        precision: a Keras dtype policy.
        depth: of a residual network in its form for CIFAR; 0 for the tutorial's.
    """
    keras.config.set_dtype_policy(precision)
    keras.utils.set_random_seed(seed)
    train, validation = (_load(Path(arrays), split) for split in ("train", "validation"))
    pixels = [keras.Input(train[0].shape[1:], dtype="uint8"), keras.layers.Rescaling(1 / 255)]
    if depth:
        model = build_model(ResnetModel(depth=depth), train[0].shape[1:], len(CLASSES))
    else:
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
