import json
from pathlib import Path

import kfp.local
import numpy as np
import pytest
from kfp import dsl

from optduel.components.core import DataError
from optduel.components.prepare.component import prepare
from optduel.components.prepare.prepare import prepare_records
from optduel.components.records import Records, SplitReader, load_records
from optduel.components.records.integrity import verify_shards
from optduel.components.results import example_ids
from optduel.components.settings import Data, DigitsSource

DIGITS = Data(source=DigitsSource(), image_size=(8, 8), channels=1, shards=2)
REPOSITORY = Path(__file__).parents[2]


def artifacts(folder: Path) -> dict[str, dsl.Artifact]:
    return {
        "records": dsl.Dataset(uri=str(folder / "records")),
        "card": dsl.HTML(uri=str(folder / "card")),
        "metrics": dsl.Metrics(uri=str(folder / "metrics")),
    }


def test_the_component_writes_records_card_and_metrics(tmp_path: Path) -> None:
    outputs = artifacts(tmp_path / "out")
    prepare.python_func(
        data=DIGITS.canonical_json(), seeds="[]", root=str(tmp_path / "root"), run="", **outputs
    )
    records = load_records(Path(outputs["records"].path))
    assert records.folder.parent == tmp_path / "root" / "datasets" / "digits"
    for split in records.manifest.splits.values():
        verify_shards(records, split.shards)
    assert Path(outputs["card"].path).read_text().startswith("<!DOCTYPE html>")
    metrics = outputs["metrics"].metadata
    assert json.loads(Path(outputs["metrics"].path).read_text()) == metrics
    assert (metrics["classes"], metrics["left_out"], metrics["duplicates"]) == (10.0, 0.0, 0.0)
    assert metrics["train_images"] + metrics["validation_images"] + metrics["test_images"] == 1797.0
    assert all(
        type(value) is float for value in metrics.values()
    )  # other types change on their way through KFP


def test_every_seed_can_have_a_split_of_its_own(tmp_path: Path) -> None:
    outputs = artifacts(tmp_path / "out")
    root = str(tmp_path / "root")
    prepare.python_func(data=DIGITS.canonical_json(), seeds="[7, 3]", root=root, run="", **outputs)
    place = Path(outputs["records"].path)
    of_seeds = {seed: load_records(place, seed) for seed in (7, 3)}
    assert load_records(place) == of_seeds[7], "the first seed's stand for all"
    for seed, records in of_seeds.items():
        again = Data(**{**dict(DIGITS), "split": DIGITS.split.model_copy(update={"seed": seed})})
        assert prepare_records(again, root) == records
    names = ["train", "validation", "test"]
    one, other = (
        {name: set(example_ids(*all_of(records, name))) for name in names} for records in of_seeds.values()
    )
    assert set.union(*one.values()) == set.union(*other.values()), "the same images"
    # A tenth of the images is the test split: by chance about a tenth of it is in the other one, too.
    assert 0 < len(one["test"] & other["test"]) < len(one["test"]) / 3
    with pytest.raises(DataError, match="has no split of seed 4; run prepare again"):
        load_records(place, 4)


def all_of(records: Records, split: str) -> tuple[np.ndarray, np.ndarray]:
    reader = SplitReader(records, split)
    positions = np.arange(len(reader))
    shards = len(reader.shard_sizes)
    return reader.read(positions % shards, positions // shards)


@pytest.mark.parametrize(
    ("data", "code", "message"),
    [
        (
            '{"source":{"kind":"folder","path":"/nowhere"},"image_size":[8,8]}',
            65,
            "data.source.path = /nowhere: no such folder",
        ),
        ('{"source":{"kind":"digits"},"image_sise":[8,8]}', 64, "did you mean 'image_size'?"),
    ],
)
def test_a_wrong_request_ends_with_one_message_and_a_documented_code(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], data: str, code: int, message: str
) -> None:
    with pytest.raises(SystemExit) as caught:
        prepare.python_func(
            data=data, seeds="[]", root=str(tmp_path / "root"), run="", **artifacts(tmp_path / "out")
        )
    assert caught.value.code == code
    error = capsys.readouterr().err
    assert error.startswith("prepare failed: ")
    assert message in error
    assert not (tmp_path / "out").exists()


@pytest.mark.filterwarnings("ignore:You may be attemping to run a task:RuntimeWarning")
def test_the_component_runs_in_kfps_local_runner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(REPOSITORY)  # the runner's processes import from the working directory
    runner = kfp.local.SubprocessRunner(use_venv=False)
    kfp.local.init(runner, pipeline_root=str(tmp_path / "outputs"), raise_on_error=True)
    task = prepare(data=DIGITS.canonical_json(), seeds="[]", root=str(tmp_path / "root"), run="")
    records = load_records(Path(task.outputs["records"].path))
    assert records.manifest.name == "digits"
    assert task.outputs["metrics"].metadata["classes"] == 10.0
    assert Path(task.outputs["card"].path).stat().st_size > 10_000
