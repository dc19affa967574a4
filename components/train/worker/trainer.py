"""The process that trains, started and watched by a worker: `python -m THIS_MODULE TASK`.

With TF_CONFIG in the environment it is one worker of a group under MultiWorkerMirroredStrategy.
"""

import contextlib
import ctypes
import os
import signal
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, NoReturn

from optduel.components.core import (
    StoppedError,
    TrainingError,
    exit_on_error,
    usable_cores,
    write_termination,
)
from optduel.components.numerics import set_up_libraries
from optduel.components.settings import decode
from optduel.components.storage import read
from optduel.components.train.contract.control import PROGRESS_VARIABLE, Control
from optduel.components.train.contract.task import Task
from optduel.components.train.worker.group import INDEX_VARIABLE, Group, group_from_environment

_PR_SET_PDEATHSIG = 1
"""prctl(2): the signal that this process gets when its parent dies."""


def main(arguments: list[str]) -> None:
    """Trains the task at a path or URI; exits with 0 or the code of an OptduelError that it has reported."""
    _depend_on_parent()
    path = os.environ.get(PROGRESS_VARIABLE)
    control = Control(Path(path) if path else None)
    control.follow(sys.stdin.fileno())

    def known() -> Mapping[str, int | str]:
        index = int(os.environ.get(INDEX_VARIABLE, "0"))
        return {"worker": index, "phase": control.progress.phase, "step": control.progress.step}

    sys.excepthook = _report_defect(known)
    try:
        with exit_on_error("train", known):
            task = decode(Task, read(arguments[0]).decode(), arguments[0])
            _train(task, group_from_environment(os.environ, task.compute.workers), control)
    except SystemExit as ended:
        _leave(int(ended.code or 0))
    _leave(0)


def _leave(code: int) -> NoReturn:
    """Ends this process with all written, and without an end of TensorFlow's: its threads wait for peers."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _depend_on_parent() -> None:
    """Lets this process end with its supervisor, and only the supervisor be asked to stop.

    The end of standard input tells of the supervisor's death too, but to a thread, and TensorFlow holds
    the interpreter's lock for minutes while it waits for a peer: so the kernel is asked as well.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)


def _report_defect(known: Callable[[], Mapping[str, int | str]]) -> Callable[..., None]:
    """An exception hook that also reports what nobody has foreseen; the supervisor turns code 1 into 70."""

    def hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        sys.__excepthook__(kind, error, trace)
        last_line = f"{kind.__name__}: {error}"
        message = f"a defect of optduel: {last_line}; its traceback is among the worker's last lines"
        write_termination("train", TrainingError(message), known())

    return hook


def _train(task: Task, group: Group, control: Control) -> None:
    # TensorFlow takes seconds to import, so it stands here and not at the top.
    set_up_libraries()
    import tensorflow as tf

    from optduel.components.train.loop.loop import train
    from optduel.components.train.worker.devices import check_gpus, own_gpus
    from optduel.components.train.worker.tensorflow_errors import in_our_words

    gpus = tf.config.list_physical_devices("GPU")
    check_gpus(len(gpus), tf.test.is_built_with_cuda(), os.environ)
    gpus = own_gpus(gpus, group.workers_on_this_host, group.place_on_this_host)
    tf.config.set_visible_devices(gpus, "GPU")
    threads = task.compute.threads_per_worker or max(1, usable_cores() // group.workers_on_this_host)
    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(max(2, threads))
    with in_our_words(f"train {task.name}: worker {group.index} of {task.compute.workers}"):
        if group.peers:
            strategy = tf.distribute.MultiWorkerMirroredStrategy()
        elif len(gpus) > 1:
            strategy = tf.distribute.MirroredStrategy()
        else:
            strategy = tf.distribute.get_strategy()
        try:
            train(task, strategy, control)
        except StoppedError:
            _part(strategy, group)
            raise
        _part(strategy, group)


def _part(strategy: Any, group: Group) -> None:
    """Waits until every worker is done: one that ends early cuts off the last answer that a peer waits for.

    A peer that is lost now has done its work, or says itself that it failed.
    """
    if not group.peers:
        return
    import tensorflow as tf

    from optduel.components.core import PeerLostError
    from optduel.components.train.worker.tensorflow_errors import in_our_words

    with contextlib.suppress(PeerLostError), in_our_words("done"):

        @tf.function
        def meet() -> Any:
            return tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, tf.ones([]))

        strategy.run(meet)


if __name__ == "__main__":
    main(sys.argv[1:])
