"""The fork server's copies are processes like any other; what might import something else gets none."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.train.processes import is_running, wait_until

SHARED = "import os, sys; print(os.getppid()) # import tensorflow"
"""Tells who started it: the fork server, or the test."""


def run(python: str, code: str, *arguments: str, **options: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # type: ignore[call-overload, no-any-return]
        [python, "-c", f"import tensorflow\n{code}", *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        **options,
    )


def is_forked(told: str) -> bool:
    return int(told) != os.getpid()


def log(python: str) -> str:
    """The end of what the fork server has written, which tells why it made no copy."""
    return (Path(python).parents[1] / "server.log").read_text()[-1000:]


def test_a_copy_has_its_clients_arguments_environment_streams_and_end(forking_python: str) -> None:
    code = """
import json, os, sys
print(json.dumps([sys.argv, os.environ["OPTDUEL_X"], sys.stdin.read(), sys.executable, __name__]))
sys.exit("no")
"""
    ended = run(forking_python, code, "a b", "", input="in", env=os.environ | {"OPTDUEL_X": "x"})
    assert json.loads(ended.stdout) == [["-c", "a b", ""], "x", "in", forking_python, "__main__"]
    assert (ended.returncode, ended.stderr) == (1, "no\n")


def test_no_state_of_one_copy_is_in_the_next(forking_python: str) -> None:
    code = """
import keras
print(keras.config.dtype_policy().name, keras.src.backend.common.global_state.get_global_attribute("x"))
keras.config.set_dtype_policy("float64")
keras.src.backend.common.global_state.set_global_attribute("x", 1)
"""
    assert [run(forking_python, code).stdout for _ in range(2)] == ["float32 None\n"] * 2


def test_an_exception_is_shown_and_an_exit_code_told(forking_python: str) -> None:
    raised = run(forking_python, "raise ValueError('wrong')")
    assert raised.returncode == 1
    assert raised.stderr.endswith("ValueError: wrong\n")
    assert run(forking_python, "import os; os._exit(78)").returncode == 78
    assert run(forking_python, "import os; os.kill(os.getpid(), 9)").returncode == -signal.SIGKILL


def test_a_copy_ends_with_its_client(forking_python: str, tmp_path: Path) -> None:
    told = tmp_path / "pid"
    code = f"import os, time; open({str(told)!r}, 'w').write(str(os.getpid())); time.sleep(600)"
    with subprocess.Popen([forking_python, "-c", f"import tensorflow\n{code}"]) as client:
        wait_until(lambda: told.exists() and told.read_text())
        client.kill()
    wait_until(lambda: not is_running(int(told.read_text())))


@pytest.mark.parametrize(
    "name", ["KERAS_BACKEND", "HOME", "TF_ENABLE_ONEDNN_OPTS", "PYTHONPATH", "http_proxy"]
)
def test_an_environment_that_imports_read_starts_the_usual_way(forking_python: str, name: str) -> None:
    command = [forking_python, "-c", SHARED]
    plain, changed = (
        subprocess.run(command, capture_output=True, text=True, check=True, env=os.environ | told).stdout
        for told in ({}, {name: "/nonexistent"})
    )
    assert is_forked(plain), log(forking_python)
    assert not is_forked(changed)


def test_a_part_of_what_imports_set_may_be_there_already(forking_python: str) -> None:
    """As in a test process that has imported TensorFlow and whose fixtures undid a part of what that set."""
    command = [forking_python, "-c", f"{SHARED}\nprint(os.environ['TF2_BEHAVIOR'])"]
    storage = {"DISABLE_GCS_PYTHON_CLIENT_OTEL_BUCKET_METADATA": "true"}
    environment = os.environ | storage | {"TF2_BEHAVIOR": "1", "KERAS_BACKEND": "tensorflow"}
    ended = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    parent, told = ended.stdout.split()
    assert is_forked(parent), log(forking_python)
    assert told == "1"


def test_another_folder_starts_the_usual_way(forking_python: str, tmp_path: Path) -> None:
    command = [forking_python, "-c", SHARED]
    told = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path).stdout
    assert not is_forked(told)


def test_what_imports_no_tensorflow_is_the_interpreter_itself(forking_python: str) -> None:
    code = "import os, sys; print(os.getppid(), sys.executable)"
    told = subprocess.run([forking_python, "-c", code], capture_output=True, text=True, check=True).stdout
    assert told == f"{os.getpid()} {forking_python}\n"
    assert forking_python != sys.executable
