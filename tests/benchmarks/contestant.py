"""One process of a contestant: `python -m tests.benchmarks.contestant REQUEST_FILE RESULT_FILE`.

Imports nothing but the standard library, because PyTorch's environment has nothing of ours.
"""

import importlib
import json
import os
import sys
from pathlib import Path


class UnavailableError(Exception):
    """A contestant cannot run on this machine; the message says why."""


def main(arguments: list[str]) -> None:
    """Does what the request says, on the cores that it names, and writes what came of it."""
    request_file, result_file = map(Path, arguments)
    request = json.loads(request_file.read_text())
    # Before anything is imported: TensorFlow and PyTorch make as many threads as they see cores.
    os.sched_setaffinity(0, request["cores"])
    module = importlib.import_module(f"tests.benchmarks.{request['module']}")
    try:
        result = module.run(request["seed"], Path(request["folder"]), **request["arguments"])
    except UnavailableError as error:
        result = {"skipped": str(error)}
    result_file.write_text(json.dumps(result))


if __name__ == "__main__":
    # As the module that the contestants import, so that there is one UnavailableError.
    importlib.import_module("tests.benchmarks.contestant").main(sys.argv[1:])
