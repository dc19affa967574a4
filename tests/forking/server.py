"""A process that has imported TensorFlow and forks for each task, so that no task has to import it again.

`python -P server.py ADDRESS PID` listens on a socket and ends with that process. A copy is a process of its
own, with its client's arguments, environment and standard streams, and no task's state reaches another. A
client whose environment or folder might change what is imported gets no copy: it starts the usual way.
"""

import atexit
import contextlib
import gc
import os
import random
import runpy
import selectors
import signal
import socket
import struct
import sys
import tempfile
import traceback
import types
from typing import NoReturn

from optduel.components.numerics import library_environment

FREE = ("OPTDUEL_", "PYTEST_", "AWS_", "STORAGE_EMULATOR_HOST", "TF_CONFIG", "TMPDIR", "CLUSTER_SPEC")
FREE += (
    "DISABLE_GCS_",  # set where our storage imports Google's
    "PYTHONSAFEPATH",
    "no_proxy",
    "NO_PROXY",
    "no_grpc_proxy",
    "_",
    "OLDPWD",
    "PWD",
    "SHLVL",
    "LINES",
    "COLUMNS",
)
"""How variables begin that no import reads."""

ONE_THREAD = "OPENBLAS_NUM_THREADS"
"""A fork copies one thread, and NumPy's library would start others when it is imported."""


def preload() -> None:
    """Imports what training and evaluation import.

    Raises:
        RuntimeError: a thread runs, which copies would not have.
    """
    os.environ.update(library_environment(os.environ), **{ONE_THREAD: "1"})
    import kfp.dsl.executor  # noqa: F401
    import sklearn.metrics  # noqa: F401
    import tensorflow as tf  # noqa: F401

    import optduel.components.evaluate.evaluate
    import optduel.components.train.loop.loop
    import optduel.components.train.worker.tensorflow_errors  # noqa: F401

    del os.environ[ONE_THREAD]
    threads = len(os.listdir("/proc/self/task"))
    if threads > 1:
        raise RuntimeError(f"{threads} threads run after the imports")
    gc.collect()
    gc.freeze()  # or each copy would look through all that was imported, and write to its pages


class Server:
    """Forks for each client; a copy ends with its client, and the client as the copy did."""

    def __init__(self, address: str, run: int) -> None:
        before, ours = dict(os.environ), library_environment(os.environ)
        preload()
        # The caller's, what a worker makes of it for the process that trains, and what imports add to it. A
        # test process may have a part of each: it may have imported TensorFlow, and undone some settings.
        self._environments, self._folder = [before, ours, dict(os.environ)], os.getcwd()
        self._set_by_imports = {name: value for name, value in os.environ.items() if name not in ours}
        self._clients: dict[int, socket.socket] = {}
        self._selector = selectors.DefaultSelector()
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(address)
        self._listener.listen()
        self._selector.register(self._listener, selectors.EVENT_READ, self._accept)
        self._selector.register(os.pidfd_open(run), selectors.EVENT_READ, self._leave)

    def serve(self) -> NoReturn:
        """Goes on to the end of the tests' run."""
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        while True:
            for key, _ in self._selector.select():
                key.data()

    def _differing(self, environment: dict[str, str]) -> list[str]:
        """The variables that imports may read and that have a value with which none of ours did, sorted."""
        names = environment.keys() | {name for one in self._environments for name in one}
        return sorted(
            name
            for name in names
            if not name.startswith(FREE)
            and environment.get(name) not in {one.get(name) for one in self._environments}
        )

    def _leave(self) -> NoReturn:
        for process in self._clients:
            os.kill(process, signal.SIGKILL)
        os._exit(0)

    def _accept(self) -> None:
        client, _address = self._listener.accept()
        head, streams, _, _ = socket.recv_fds(client, 4, 3)
        (size,) = struct.unpack("I", head)
        request = client.recv(size, socket.MSG_WAITALL).decode(errors="surrogateescape").split("\0")
        folder, count = request[0], int(request[1])
        arguments = request[2 : 2 + count]
        environment = dict(entry.split("=", 1) for entry in request[2 + count :])
        differing = self._differing(environment)
        if folder != self._folder or differing:
            sys.stderr.write(f"no copy in {folder}: {differing}\n")
            sys.stderr.flush()
            client.sendall(b"n")
            client.close()
        elif process := os.fork():
            client.sendall(b"y")
            self._look_after(process, client)
        else:
            self._selector.close()
            self._listener.close()
            client.close()
            become(arguments, self._set_by_imports | environment, streams)
        for stream in streams:
            os.close(stream)

    def _look_after(self, process: int, client: socket.socket) -> None:
        self._clients[process] = client
        end = os.pidfd_open(process)

        def ended() -> None:
            _, status = os.waitpid(process, 0)
            for one in (end, client):
                with contextlib.suppress(KeyError):
                    self._selector.unregister(one)
            os.close(end)
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                client.sendall(struct.pack("i", status))
            self._clients.pop(process).close()

        def abandoned() -> None:
            self._selector.unregister(client)
            os.kill(process, signal.SIGKILL)

        self._selector.register(end, selectors.EVENT_READ, ended)
        self._selector.register(client, selectors.EVENT_READ, abandoned)


def become(arguments: list[str], environment: dict[str, str], streams: list[int]) -> NoReturn:
    """Does what the interpreter does with these arguments, to the end of this process."""
    os.setpgid(0, 0)
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    os.environ.clear()
    os.environ.update(environment)
    sys.executable, *arguments = arguments
    is_safe = "PYTHONSAFEPATH" in environment
    while arguments[0] in ("-P", "-u"):
        is_safe |= arguments.pop(0) == "-P"
    if not is_safe:
        sys.path.insert(0, os.getcwd() if arguments[0] == "-m" else "")
    tempfile.tempdir = None
    random.seed()
    code = execute(*arguments)
    atexit._run_exitfuncs()
    with contextlib.suppress(BrokenPipeError, ValueError):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code)


def execute(option: str, what: str, *arguments: str) -> int:
    """Runs a module (-m) or code (-c); returns the exit code."""
    sys.argv[:] = [option, *arguments]
    try:
        if option == "-m":
            runpy.run_module(what, run_name="__main__", alter_sys=True)
        else:
            sys.modules["__main__"] = main = types.ModuleType("__main__")
            exec(compile(what, "<string>", "exec"), main.__dict__)
    except SystemExit as ended:
        if isinstance(ended.code, int | None):
            return ended.code or 0
        sys.stderr.write(f"{ended.code}\n")
        return 1
    except BaseException as error:  # noqa: BLE001 - as the interpreter itself does
        if sys.excepthook is sys.__excepthook__:
            traceback.print_exception(error)
        else:
            sys.excepthook(type(error), error, error.__traceback__)
        return 1
    return 0


if __name__ == "__main__":
    Server(sys.argv[1], int(sys.argv[2])).serve()
