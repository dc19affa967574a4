import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from optduel.components.core import (
    ERROR_TYPES,
    TERMINATION_LOG_VARIABLE,
    DataError,
    OptduelError,
    StorageError,
    decode_termination,
    exit_on_error,
    read_termination,
    write_termination,
)

REPOSITORY = Path(__file__).parents[2]


def descendants(error: type[OptduelError]) -> set[type[OptduelError]]:
    children = set(error.__subclasses__())
    return children.union(*map(descendants, children))


def run(code: str, log: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", f"from optduel.components.core.errors import *\n{code}"],
        cwd=REPOSITORY,
        env={TERMINATION_LOG_VARIABLE: str(log)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_every_error_can_be_read_back_from_a_termination_message() -> None:
    assert set(ERROR_TYPES.values()) == descendants(OptduelError)
    assert all(name == error.__name__ for name, error in ERROR_TYPES.items())


# The table that a cluster's failure rules use: 64, 65, 69, 70 and 78 stop the job, the others start it again.
@pytest.mark.parametrize(
    ("name", "worker_code", "cli_code"),
    [
        ("ExperimentError", 64, 2),
        ("DataError", 65, 2),
        ("StorageError", 75, 2),
        ("RefusedError", 78, 2),
        ("ConflictError", 75, 2),
        ("DamagedError", 75, 2),
        ("TrainingError", 70, 1),
        ("LaunchError", 75, 1),
        ("PeerLostError", 75, 1),
        ("SetupError", 78, 1),
        ("ClusterError", 75, 2),
        ("RunError", 70, 1),
        ("OutOfMemoryError", 137, 1),
        ("UnfollowedError", 69, 1),
        ("StoppedError", 143, 1),
    ],
)
def test_a_process_ends_with_code_message_and_termination_file(
    tmp_path: Path, name: str, worker_code: int, cli_code: int
) -> None:
    assert ERROR_TYPES[name].cli_exit_code == cli_code
    log = tmp_path / "termination"
    finished = run(f"with exit_on_error('prepare'): raise {name}('a = 1: must be 2')", log)
    assert finished.returncode == worker_code
    assert finished.stderr == "prepare failed: a = 1: must be 2\n"
    assert finished.stdout == ""
    assert json.loads(log.read_text()) == {
        "stage": "prepare",
        "error": name,
        "message": "a = 1: must be 2",
        "exit_code": worker_code,
    }
    reported = read_termination(log)
    assert type(reported) is ERROR_TYPES[name]
    assert str(reported) == "a = 1: must be 2"


def test_the_message_nearest_to_the_cause_is_kept(tmp_path: Path) -> None:
    log = tmp_path / "termination"
    run("with exit_on_error('worker 1'): raise DataError('cause')", log)
    run("write_termination('train', LaunchError('consequence'), {})", log)
    assert str(read_termination(log)) == "cause"


@pytest.mark.parametrize("content", ["", '{"stage": "train", "error": "Launch'], ids=["empty", "half"])
def test_a_file_without_a_whole_message_does_not_count(tmp_path: Path, content: str) -> None:
    """Kubernetes makes an empty one; a process that was killed may leave half of one."""
    log = tmp_path / "termination"
    log.write_text(content)
    assert read_termination(log) is None
    finished = run("with exit_on_error('train', lambda: {'worker': 1}): raise DataError('cause')", log)
    assert finished.returncode == 65
    assert str(read_termination(log)) == "cause"
    assert json.loads(log.read_text())["worker"] == 1


@pytest.mark.parametrize(
    ("letter", "kept"),
    [("a", 3900), ('"', 1900), ("é", 1900), ("写", 1300), ("😀", 900), ("\\udcff", 600)],
    ids=["ascii", "escaped", "two-bytes", "three-bytes", "four-bytes", "no-utf-8"],
)
def test_a_long_message_is_cut_to_what_kubernetes_keeps(tmp_path: Path, letter: str, kept: int) -> None:
    log = tmp_path / "termination"
    run(f"write_termination('train', DataError('{letter}' * 5000), {{'step': 7}})", log)
    assert 4090 <= len(log.read_bytes()) <= 4096
    message = str(read_termination(log))
    assert message.endswith("...")
    assert len(message) > kept


def test_a_termination_file_that_cannot_be_written_hides_neither_cause_nor_code(tmp_path: Path) -> None:
    log = tmp_path / "absent" / "termination"
    finished = run("with exit_on_error('train'): raise DataError('cause')", log)
    assert finished.returncode == 65
    assert finished.stderr == (
        f"train failed: cause\ntrain: OPTDUEL_TERMINATION_LOG = {log}: cannot be written "
        "(No such file or directory)\n"
    )


def test_a_bug_keeps_its_traceback_and_reports_nothing(tmp_path: Path) -> None:
    finished = run("with exit_on_error('train'): raise KeyError('a')", tmp_path / "termination")
    assert finished.returncode == 1
    assert "Traceback" in finished.stderr
    assert finished.stderr.endswith("KeyError: 'a'\n")
    assert list(tmp_path.iterdir()) == []


def test_without_a_termination_file_the_code_and_message_remain(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as raised, exit_on_error("report"):
        raise DataError("a: b")
    assert raised.value.code == 65
    assert capsys.readouterr().err == "report failed: a: b\n"


def test_a_body_without_error_ends_normally(capsys: pytest.CaptureFixture[str]) -> None:
    with exit_on_error("report"):
        pass
    assert capsys.readouterr() == ("", "")


def test_a_process_that_reported_nothing_has_no_error(tmp_path: Path) -> None:
    assert read_termination(tmp_path / "absent") is None


RECORDED = (
    'main: Error (exit code 1): {"stage": "train", "error": "StorageError", "exit_code": 75, "message": '
    '"minio://mlpipeline/v2/checkpoints: HTTP 403 Forbidden: AccessDenied: Access Denied."}'
)
"""The message of a node of Argo 4.0.5 under Kubeflow Pipelines 2.17.0, recorded on 2026-11-28, shortened."""


def test_a_report_is_read_out_of_the_message_of_a_workflow_s_node() -> None:
    told = decode_termination(RECORDED)
    assert told is not None
    assert (told.stage, type(told.error), told.exit_code, told.details) == ("train", StorageError, 75, {})
    assert str(told.error).startswith("minio://mlpipeline/v2/checkpoints: HTTP 403 Forbidden")


@pytest.mark.parametrize(
    "message",
    [
        "",
        "main: Error (exit code 1)",
        "main: OOMKilled (exit code 137)",
        "No more retries left",
        "retryStrategy.expression evaluated to false",
        "main: Error (exit code 1): {}",
        '{"stage": "train", "error": ["DataError"], "exit_code": 65, "message": ""}',
        '{"stage": "train", "error": "DataError", "exit_code": "65", "message": ""}',
        '{"stage": "train", "error": "KeyError", "exit_code": 65, "message": ""}',
        "{" * 100_000,
        "[" * 100_000,
    ],
)
def test_a_message_without_a_report_is_none(message: str) -> None:
    assert decode_termination(message) is None


def test_a_report_whose_end_is_missing_tells_what_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a pod with four containers Kubernetes keeps a quarter of 12 KiB each."""
    log = tmp_path / "termination"
    monkeypatch.setenv(TERMINATION_LOG_VARIABLE, str(log))
    error = DataError('a "quoted"\n\u2028 line ' * 9)
    cause = str(error)
    write_termination("prepare", error, {"step": 7})
    whole = log.read_text()
    begin = whole.index('"message": "') + len('"message": "')
    for end in range(begin, len(whole)):
        told = decode_termination(f"main: Error (exit code 1): {whole[:end]}")
        assert told is not None, whole[:end]
        assert (told.stage, type(told.error), told.exit_code) == ("prepare", DataError, 65)
        assert told.details == {"step": 7}
        assert cause.startswith(str(told.error).removesuffix("..."))
    assert decode_termination(whole[: begin - 4]) is None


@given(st.binary(max_size=300) | st.text(max_size=300).map(lambda text: f'{{"stage": "{text}", "error": "'))
def test_no_message_is_too_strange(content: bytes | str) -> None:
    told = decode_termination(content)
    assert told is None or isinstance(told.error, OptduelError)
