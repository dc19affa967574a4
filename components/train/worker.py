"""One training process: `python -m components.train.worker TASK_FILE`.

With TF_CONFIG in the environment it is one worker of a group under MultiWorkerMirroredStrategy.
"""

import os
import sys
from pathlib import Path

from components.core.authoring import decode
from components.core.errors import ExperimentError, exit_on_error
from components.core.storage import read
from components.train.task import Task


def main(arguments: list[str]) -> int:
    """Trains the task in the named file; returns 0, or exits with a code of `components.core.errors`."""
    with exit_on_error("train"):
        if len(arguments) != 1:
            raise ExperimentError("python -m components.train.worker: takes one argument, the task's file")
        task = decode(Task, read(Path(arguments[0])).decode(), arguments[0])
        _train(task)
    return 0


def _train(task: Task) -> None:
    # TensorFlow takes seconds to import and reads these once, so both stand here and not at the top.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    import tensorflow as tf

    from components.train.loop import train

    tf.config.experimental.enable_op_determinism()
    if task.compute.threads_per_worker:
        tf.config.threading.set_intra_op_parallelism_threads(task.compute.threads_per_worker)
        tf.config.threading.set_inter_op_parallelism_threads(max(2, task.compute.threads_per_worker))
    if task.compute.workers > 1:
        strategy = tf.distribute.MultiWorkerMirroredStrategy()
    elif len(tf.config.list_logical_devices("GPU")) > 1:
        strategy = tf.distribute.MirroredStrategy()
    else:
        strategy = tf.distribute.get_strategy()
    train(task, strategy)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
