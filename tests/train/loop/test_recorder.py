"""What a chief finds in a local folder when it begins, and what it leaves there."""

from collections.abc import Callable
from pathlib import Path

from optduel.components.train.contract.task import Task
from optduel.components.train.loop.recorder import Recorder


def test_what_a_killed_chief_was_writing_is_gone_when_the_next_begins(
    make_task: Callable[..., Task], tmp_path: Path
) -> None:
    """Kubeflow Pipelines would copy it with the model, for ever."""
    task = make_task("trial")
    for place in (f"{task.checkpoint_folder}/step-0000000003.npz", task.model_file, task.history_file):
        path = Path(place)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"whole")
        (path.parent / f".{path.name}.abcd1234.part").write_bytes(b"half")
    Recorder(task, "trial", [], tmp_path / "scratch").finish([])
    files = [path.name for path in Path(task.output).rglob("*") if path.is_file()]
    assert [name for name in files if name.endswith(".part")] == []
    assert {"step-0000000003.npz", "model.keras", "history.jsonl"} <= set(files)
