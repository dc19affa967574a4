"""Whose home a trial runs in, and behind which proxy, changes nothing about it."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from optduel.components.records import Records
from optduel.components.results import Row
from optduel.components.train.contract.task import Task
from tests.numerics.test_libraries import HOSTILE
from tests.train.checkpoints import whole_state
from tests.train.conftest import ADAMW, CNN

KERAS_SETTINGS = {
    "backend": "torch",
    "epsilon": 0.1,
    "floatx": "float16",
    "image_data_format": "channels_first",
}

EVERY_STAGE = """
# Evaluation and training import tensorflow.
import json, os, sys
from pathlib import Path
os.umask(0o077)
from optduel.components.evaluate.evaluate import evaluate_trial
from optduel.components.prepare.prepare import prepare_records
from optduel.components.settings import decode
from optduel.components.train.contract.task import Task
from optduel.components.train.local.local_launcher import LocalLauncher
from optduel.pipeline.cli.shipped import load_experiment
folder = Path(sys.argv[1])
records = prepare_records(load_experiment("digits").data, str(folder / "records"))
task = decode(Task, (folder / "task.json").read_text(), "task").model_copy(update={"records": records})
LocalLauncher().run(task)
trial, _ = evaluate_trial(records, task.output, 0.95)
# Keras writes the time into a model's file.
evaluation = trial.evaluation.model_dump(mode="json", exclude={"model_sha256"})
print(json.dumps({"evaluation": evaluation, "records": str(records.folder)}))
"""


def run_every_stage(
    python: str, folder: Path, task: Task, environment: dict[str, str]
) -> tuple[str, Any, Path]:
    """The state that training ends in, the evaluation, and the folder of the records."""
    folder.mkdir()
    task = task.model_copy(update={"output": str(folder / "trial")})
    (folder / "task.json").write_text(task.canonical_json())
    finished = subprocess.run(
        [python, "-c", EVERY_STAGE, str(folder)],
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=300,
    )
    told = json.loads(finished.stdout.splitlines()[-1])
    return whole_state(task), told["evaluation"], Path(told["records"])


@pytest.mark.slow
def test_home_and_environment_change_no_number(
    make_task: Callable[..., Task], tmp_path: Path, forking_python: str
) -> None:
    """Records, history and evaluation are the same bytes here and among traps."""
    settings, home = tmp_path / "settings", tmp_path / "home"
    settings.mkdir()
    (settings / "keras.json").write_text(json.dumps(KERAS_SETTINGS))
    home.mkdir()
    hostile = HOSTILE | {"HOME": str(home), "KERAS_HOME": str(settings), "LC_ALL": "tr_TR.ISO-8859-9"}
    traps = os.environ | hostile

    task = make_task("trial", ADAMW, CNN, epochs=1)
    state, evaluation, records = run_every_stage(forking_python, tmp_path / "here", task, dict(os.environ))
    hostile_state, hostile_evaluation, hostile_records = run_every_stage(
        sys.executable, tmp_path / "hostile", task, traps
    )
    assert hostile_state == state
    assert hostile_evaluation == evaluation
    shards = sorted(path.name for path in records.glob("*.tfrecord*"))
    assert shards
    for name in [*shards, "manifest.json"]:
        assert (hostile_records / name).read_bytes() == (records / name).read_bytes()
    assert not (home / ".keras").exists(), "where Keras looks for its settings, it writes them"


@pytest.fixture
def dead_proxy(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A proxy that takes connections and never says a word, as the environment of a company names it."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        proxy = f"http://127.0.0.1:{listener.getsockname()[1]}"
        for name in ("http_proxy", "https_proxy", "grpc_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
            monkeypatch.setenv(name, proxy)
        for name in ("no_proxy", "NO_PROXY", "no_grpc_proxy"):
            monkeypatch.delenv(name, raising=False)
        yield proxy


@pytest.mark.slow
def test_workers_meet_without_the_proxy_of_the_environment(
    dead_proxy: str,
    make_task: Callable[..., Task],
    run_task: Callable[[Task], tuple[Row, ...]],
    records: Records,
) -> None:
    compute = {"start_seconds": 60, "progress_seconds": 60, "restarts": 0}
    task = make_task("behind-a-proxy", model={"name": "linear"}, workers=2, epochs=1, compute=compute)
    rows = run_task(task)
    assert rows[-1].examples == records.manifest.splits["validation"].records
