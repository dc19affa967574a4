"""What a person without a container engine is told."""

import gc
import warnings
from pathlib import Path

import pytest

from optduel.pipeline.cli.command_line import main


def test_a_missing_engine_is_one_message(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/no.sock")
    with warnings.catch_warnings():
        # Docker's client leaves a socket to the collector that it could not connect.
        warnings.simplefilter("ignore", ResourceWarning)
        code = main(["run", "digits", "--root", str(tmp_path / "study"), "--image", "optduel:1"])
        gc.collect()
    assert code == 1
    assert "--image: no container engine answers" in capsys.readouterr().err
    assert not (tmp_path / "study").exists()
