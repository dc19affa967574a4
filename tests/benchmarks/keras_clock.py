"""Takes the times of a Keras `fit` from its callbacks."""

import time
from typing import Any

import keras

from tests.benchmarks.rates import median_after_first


class KerasClock(keras.callbacks.Callback):
    """Measures one `fit`.

    Args:
        images: of one epoch.
    """

    def __init__(self, images: int) -> None:
        super().__init__()
        self._images = images
        self._first_step: float | None = None
        self._epoch_begin = self._end = 0.0
        self._epoch_seconds: list[float] = []
        self._accuracies: list[float] = []

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self._epoch_begin = time.perf_counter()

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        if self._first_step is None:
            self._first_step = time.perf_counter()

    def on_test_begin(self, logs: Any = None) -> None:
        """Validation begins: the epoch's training is over."""
        self._epoch_seconds.append(time.perf_counter() - self._epoch_begin)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        if len(self._epoch_seconds) == epoch:  # without validation
            self._epoch_seconds.append(time.perf_counter() - self._epoch_begin)
        self._accuracies += [value for name, value in (logs or {}).items() if name == "val_accuracy"]

    def on_train_end(self, logs: Any = None) -> None:
        self._end = time.perf_counter()

    def result(self) -> dict[str, Any]:
        """Seconds from the first step to the end, images/s of training, and the validation accuracies."""
        rates = [self._images / seconds for seconds in self._epoch_seconds]
        result: dict[str, Any] = {
            "training_seconds": self._end - (self._first_step or 0.0),
            "epoch_rates": rates,
            "images_per_second": median_after_first(rates),
        }
        if self._accuracies:
            result["validation_accuracies"] = self._accuracies
            result["validation_accuracy"] = self._accuracies[-1]
        return result
