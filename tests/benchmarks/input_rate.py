"""Input pipelines alone: how fast each of them delivers the batches of the training split."""

import itertools
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from optduel.components.records import SplitReader, load_records
from optduel.components.train.model.batches import distribute, training_sampler
from optduel.pipeline.cli.shipped import load_experiment
from tests.benchmarks.rates import median_after_first

BATCH_SIZE = 32

Epochs = Iterable[Iterable[Any]]


def run(
    seed: int, folder: Path, kind: str, source: str, image_size: Sequence[int], seconds: float
) -> dict[str, Any]:
    """Iterates over epochs for `seconds`, at least two, after a first one that is left out.

    Args:
        seed: of the order.
        folder: not used.
        kind: a key of `PIPELINES`.
        source: where its data is.
        image_size: height and width.
        seconds: how long to measure.

    Returns:
        Images/s, and the processor time of an image in microseconds: the input runs beside the step, on the
        same cores.
    """
    rates, processor = [], []
    started = time.perf_counter()
    for epoch in PIPELINES[kind](seed, source, image_size):
        images, clock, processor_clock = 0, time.perf_counter(), time.process_time()
        for batch in epoch:
            images += int(batch[0].shape[0])
        rates.append(images / (time.perf_counter() - clock))
        processor.append((time.process_time() - processor_clock) / images * 1e6)
        if len(rates) == 1:
            started = time.perf_counter()
        elif len(rates) > 2 and time.perf_counter() - started > seconds:
            break
    return {
        "epoch_rates": rates,
        "images_per_second": median_after_first(rates),
        "processor_microseconds": median_after_first(processor),
    }


def _tfds(seed: int, source: str, image_size: Sequence[int]) -> Epochs:
    from tests.benchmarks.tutorial_script import load  # and TensorFlow Datasets with it

    return itertools.repeat(load(source, "train[:80%]", image_size))


def _tfds_uncached(seed: int, source: str, image_size: Sequence[int]) -> Epochs:
    from tests.benchmarks.tutorial_script import load

    return itertools.repeat(load(source, "train[:80%]", image_size, cached=False))


def _directory(seed: int, source: str, image_size: Sequence[int]) -> Epochs:
    dataset = keras.utils.image_dataset_from_directory(
        source,
        validation_split=0.2,
        subset="training",
        seed=seed,
        image_size=image_size,
        batch_size=BATCH_SIZE,
    )
    return itertools.repeat(dataset.prefetch(tf.data.AUTOTUNE))


def _records(seed: int, source: str, image_size: Sequence[int]) -> Epochs:
    tf.config.experimental.enable_op_determinism()  # as the trainer does; it changes how tf.data reads
    reader = SplitReader(load_records(Path(source)), "train")
    sampler = training_sampler(reader, load_experiment("tutorial").training, seed)
    # One pipeline over many epochs, as the trainer has it.
    batches = distribute(tf.distribute.get_strategy(), reader, sampler, 0, sampler.epoch_steps * 100_000, [])
    return (itertools.islice(batches, sampler.epoch_steps) for _ in itertools.count())


PIPELINES: dict[str, Callable[[int, str, Sequence[int]], Epochs]] = {
    "tfds": _tfds,
    "tfds uncached": _tfds_uncached,
    "directory": _directory,
    "records": _records,
}
