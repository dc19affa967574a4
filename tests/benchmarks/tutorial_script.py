"""The tutorial's script: tf_flowers by `tfds.load`, a Keras model with L2, `compile` and `fit`.

Written from the tutorial's published text. What the text leaves open is as in the experiment `tutorial`
(80/20, 180 x 180 pixels, batches of 32, 7 epochs, no shuffling, no augmentation), and where the script could
be slow or fast it is fast: images are resized in parallel and batches are prefetched. It runs on its own:

    python -m tests.benchmarks.tutorial_script --data-dir DIR  # with tf_flowers as `tfds build` makes it
"""

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf
import tensorflow_datasets as tfds

from tests.benchmarks.keras_clock import KerasClock

BATCH_SIZE = 32
L2 = 1e-3
CLASSES = 5


def load(data_dir: str, split: str, image_size: Sequence[int], cached: bool = True) -> tf.data.Dataset:
    """Batches of float32 [n, height, width, 3] in 0..1 and int64 [n].

    TensorFlow Datasets keeps a small data set decoded in memory after its first epoch unless `cached` is
    false; resizing is done again each time.
    """
    dataset = tfds.load(
        "tf_flowers",
        split=split,
        data_dir=data_dir,
        as_supervised=True,
        download=False,
        read_config=tfds.ReadConfig(try_autocache=cached),
    )

    def scale(image: tf.Tensor, label: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return tf.image.resize(image, image_size) / 255.0, label

    dataset = dataset.map(scale, num_parallel_calls=tf.data.AUTOTUNE)
    return dataset.batch(BATCH_SIZE).prefetch(tf.data.AUTOTUNE)


def network() -> list[keras.layers.Layer]:
    """The layers behind the normalized images."""
    penalty = keras.regularizers.l2(L2)
    return [
        keras.layers.Conv2D(64, 3, padding="same", activation="relu", kernel_regularizer=penalty),
        keras.layers.MaxPooling2D(),
        keras.layers.Conv2D(64, 3, padding="same", activation="relu", kernel_regularizer=penalty),
        keras.layers.MaxPooling2D(),
        keras.layers.Flatten(),
        keras.layers.Dense(128, activation="relu", kernel_regularizer=penalty),
        keras.layers.Dense(CLASSES, kernel_regularizer=penalty),
    ]


def compile_model(model: keras.Model) -> None:
    """SGD with momentum, cross-entropy from logits, accuracy."""
    model.compile(
        optimizer=keras.optimizers.SGD(learning_rate=1e-3, momentum=0.9),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=[keras.metrics.SparseCategoricalAccuracy(name="accuracy")],
    )


def run(seed: int, folder: Path, data_dir: str, image_size: Sequence[int], epochs: int) -> dict[str, Any]:
    """Trains, and returns times, rates and the final validation accuracy."""
    keras.utils.set_random_seed(seed)
    training = load(data_dir, "train[:80%]", image_size)
    validation = load(data_dir, "train[80%:]", image_size)
    model = keras.Sequential([keras.Input((*image_size, 3)), *network()])
    compile_model(model)
    images = tfds.builder("tf_flowers", data_dir=data_dir).info.splits["train[:80%]"].num_examples
    clock = KerasClock(images)
    model.fit(training, validation_data=validation, epochs=epochs, callbacks=[clock], verbose=2)
    return clock.result()


def main() -> None:
    """Runs the script as it was published and prints what came of it."""
    parser = argparse.ArgumentParser(description="The tutorial's script.")
    parser.add_argument("--data-dir", required=True)
    parser.add_argument("--epochs", type=int, default=7)
    parser.add_argument("--image-size", type=int, default=180)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    started = time.perf_counter()
    size = (options.image_size, options.image_size)
    result = run(options.seed, Path(), options.data_dir, size, options.epochs)
    result["script_seconds"] = time.perf_counter() - started
    json.dump(result, sys.stdout, indent=2)


if __name__ == "__main__":
    main()
