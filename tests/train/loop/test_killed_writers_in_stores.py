"""kill -9 at random moments of checkpointing: no reader sees half of one, none that was saved is lost."""

import json
import random
import subprocess
import sys
from pathlib import Path

import pytest

from optduel.components.storage import list_entries, read
from optduel.components.train.loop.checkpoint import latest, save
from tests.faults.stored_objects import reading
from tests.servers.places import PlaceOf
from tests.train.checkpoints import a_checkpoint, assert_is, step_file

REPOSITORY = Path(__file__).parents[3]

MOMENTS = 30
"""For each kind of store."""

KEPT = 3
"""Checkpoints that every writer keeps."""

WRITERS = """
import json, os, signal, sys, time
from optduel.components.train.loop.checkpoint import latest, save
from tests.train.checkpoints import a_checkpoint
folder, kept, moments = json.loads(sys.argv[1])
for moment in moments:
    begun = latest(folder, "trial")
    told, tell = os.pipe()
    writer = os.fork()
    if writer == 0:
        step = begun.step if begun else 0
        while True:
            step += 1
            save(folder, a_checkpoint(step), kept)
            os.write(tell, step.to_bytes(4, "big"))
    os.close(tell)
    os.read(told, 4)
    time.sleep(moment)
    os.kill(writer, signal.SIGKILL)
    assert os.WTERMSIG(os.waitpid(writer, 0)[1]) == signal.SIGKILL
    acknowledged = begun.step + 1 if begun else 1
    while step := os.read(told, 4):
        acknowledged = int.from_bytes(step, "big")
    os.close(told)
    print(acknowledged, flush=True)
    sys.stdin.readline()
"""
"""Kills one writer after the other, at moments given in seconds after its first checkpoint."""


def steps_in(folder: str) -> list[int]:
    names = [entry.uri.rpartition("/")[2] for entry in list_entries(folder)]
    return [int(name.partition("-")[2].partition(".")[0]) for name in names]


@pytest.mark.slow
@pytest.mark.parametrize(
    "kind", ["local", *(pytest.param(kind, marks=pytest.mark.exhaustive) for kind in ("s3", "gs"))]
)
def test_killed_writers_leave_whole_checkpoints_and_none_that_was_saved_is_lost(
    kind: str,
    place_of: PlaceOf,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    root = str(tmp_path)
    if kind != "local":
        place = place_of(kind)
        root = place.root
        # No proxy that might hold back what a dying writer sent.
        name = "STORAGE_EMULATOR_HOST" if kind == "gs" else "AWS_ENDPOINT_URL_S3"
        monkeypatch.setenv(name, place.proxy.upstream)
    folder, undisturbed = f"{root}/checkpoints", f"{root}/undisturbed"
    dice = random.Random(kind)
    moments = [dice.uniform(0, 0.1) for _ in range(MOMENTS)]
    with (
        reading(folder) as seen,
        subprocess.Popen(
            [sys.executable, "-c", WRITERS, json.dumps([folder, KEPT, moments])],
            cwd=REPOSITORY,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as writers,
    ):
        assert writers.stdin is not None
        assert writers.stdout is not None
        for _ in range(MOMENTS):
            acknowledged = int(writers.stdout.readline())
            steps = steps_in(folder)
            assert steps == list(range(steps[0], steps[0] + len(steps)))
            assert len(steps) <= KEPT + 1, "and one whose writer died before it deleted the oldest"
            assert steps[-1] - acknowledged in (0, 1)
            found = latest(folder, "trial")
            assert_is(found, steps[-1])
            writers.stdin.write("\n")
            writers.stdin.flush()
    assert writers.returncode == 0
    assert len(seen) > MOMENTS / 2, "the reader has looked all the time"
    assert "damaged" not in capsys.readouterr().err

    last = steps_in(folder)[-1] + 1
    save(folder, a_checkpoint(last), KEPT)
    for step in range(last - KEPT + 1, last + 1):
        save(undisturbed, a_checkpoint(step), KEPT)
    assert steps_in(folder) == steps_in(undisturbed) == list(range(last - KEPT + 1, last + 1))
    for step in steps_in(folder):
        assert read(f"{folder}/{step_file(step)}") == read(f"{undisturbed}/{step_file(step)}")
