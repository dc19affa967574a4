"""Stands in for the interpreter: has the fork server run what it can, and becomes the interpreter otherwise.

It runs under `python -IS` and imports next to nothing, because it is started often.
"""

import os
import socket
import struct
import sys

SERVED_MODULES = {"optduel.components.train.worker.trainer", "kfp.dsl.executor_main"}
"""What imports TensorFlow."""


def main() -> None:
    """Does with this process's arguments what the interpreter would."""
    folder = os.path.dirname(sys.argv[0])
    if is_served(sys.argv[1:]):
        have_it_run(os.path.join(folder, "socket"))
    # The first argument is this file, hence sys.executable too: children are started through it again.
    os.execv(os.readlink(os.path.join(folder, "interpreter")), sys.argv)


def is_served(arguments: list[str]) -> bool:
    """Whether these are arguments of a process that imports TensorFlow."""
    while arguments and arguments[0] in ("-P", "-u"):
        arguments = arguments[1:]
    match arguments:
        case ["-m", module, *_]:
            return module in SERVED_MODULES
        case ["-c", code, *_]:
            return "import tensorflow" in code
    return False


def have_it_run(address: str) -> None:
    """Ends this process as the copy of the server ended; returns only where the server makes none."""
    environment = [f"{name}={value}" for name, value in os.environ.items()]
    request = "\0".join([os.getcwd(), str(len(sys.argv)), *sys.argv, *environment]).encode(
        errors="surrogateescape"
    )
    with socket.socket(socket.AF_UNIX) as server:
        server.connect(address)
        socket.send_fds(server, [struct.pack("I", len(request))], [0, 1, 2])
        server.sendall(request)
        if server.recv(1) != b"y":
            return
        # Only the copy holds the streams from now on: whoever reads them sees when it has ended.
        null = os.open(os.devnull, os.O_RDWR)
        for descriptor in (0, 1, 2):
            os.dup2(null, descriptor)
        (status,) = struct.unpack("i", server.recv(4, socket.MSG_WAITALL))
    if os.WIFSIGNALED(status):
        os.kill(os.getpid(), os.WTERMSIG(status))
    os._exit(os.WEXITSTATUS(status))


if __name__ == "__main__":
    main()
