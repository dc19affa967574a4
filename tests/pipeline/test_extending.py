"""`optduel extend`: more seeds for a study that has ended, and a p-value that knows of the looks before."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from optduel.components.compare.compare import gather
from optduel.components.core import ExperimentError
from optduel.components.results import EXPERIMENT_NAME
from optduel.components.settings import Experiment
from optduel.pipeline.cli.command_line import main
from optduel.pipeline.cli.extending import extended
from optduel.pipeline.cli.shipped import load_experiment
from optduel.pipeline.local.run import load_run


def experiment(seeds: str = "[0, 1, 2, 3, 4, 5]", *more: str) -> Experiment:
    return load_experiment("digits", [f"study.seeds={seeds}", "tuning=null", *more])


@given(first=st.integers(1, 9), steps=st.lists(st.integers(1, 4), max_size=4))
def test_every_look_since_the_first_is_counted_whether_or_not_it_was_taken(
    first: int, steps: list[int]
) -> None:
    study = experiment(str(list(range(first))))
    for step in steps:
        study = extended(study, 3 * step)
    seeds = study.study.seeds
    assert seeds[:first] == tuple(range(first))
    assert len(set(seeds)) == len(seeds) == first + 3 * sum(steps)
    assert study.study.looks == tuple(range(first, len(seeds) + 1, 3))


def test_nothing_else_changes() -> None:
    before = experiment()
    after = extended(before, 6)
    study = before.study.model_copy(update={"seeds": tuple(range(12)), "first_look": 6})
    assert after == before.model_copy(update={"study": study})


@pytest.mark.parametrize("more", [-3, 0, 1, 4])
def test_looks_that_were_not_declared_are_refused(more: int) -> None:
    with pytest.raises(ExperimentError, match=f"--seeds = {more}: must be a multiple of 3"):
        extended(experiment(), more)


def test_a_first_look_that_does_not_fit_is_refused() -> None:
    for first in ("0", "7", "4", "9"):
        with pytest.raises(ExperimentError, match="first_look"):
            experiment("[0, 1, 2, 3, 4, 5]", f"study.first_look={first}")
    assert experiment("[0, 1, 2, 3, 4, 5]", "study.first_look=3").study.looks == (3, 6)


def test_the_extended_experiment_can_be_written_for_a_cluster(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "root" / "runs" / "digits-1"
    run.mkdir(parents=True)
    (run / EXPERIMENT_NAME).write_text(experiment().canonical_json())
    output = tmp_path / "more.yaml"
    assert main(["extend", str(run), "--seeds", "3", "--output", str(output)]) == 0
    assert capsys.readouterr().out == f"{output}\n"
    assert load_experiment(str(output), []) == extended(experiment(), 3)
    assert main(["extend", str(run), "--seeds", "3", "--output", str(tmp_path / "more.json")]) == 2
    assert main(["extend", str(run), "--seeds", "2"]) == 2
    assert main(["extend", str(tmp_path), "--seeds", "3"]) == 2
    told = capsys.readouterr().err
    assert "--output = " in told
    assert "--seeds = 2: must be a multiple of 3" in told
    assert "must be <root>/runs/<name>" in told


@pytest.mark.exhaustive
@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.usefixtures("quick_starts")
def test_finished_trials_are_taken_over_and_the_verdict_is_a_second_look(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPTDUEL_CODE_VERSION", "1")
    quick = ["--set", "training.epochs=1", "--set", "model={name: linear}", "--set", "tuning=null", "--json"]
    root = str(tmp_path)
    assert main(["run", "digits", "--root", root, "--set", "study.seeds=[0]", *quick]) == 0
    first = json.loads(capsys.readouterr().out)
    assert main(["extend", first["run"], "--seeds", "3", "--json"]) == 0
    answer, told = capsys.readouterr()
    (pair,) = json.loads(answer)["comparison"]["comparisons"]
    (before,) = first["comparison"]["comparisons"]
    assert told.count("takes over") == 2
    assert pair["differences"][:1] == before["differences"]
    assert (pair["seeds"], pair["looks"]) == ([0, 1, 2, 3], [1, 4])


@pytest.mark.exhaustive
@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.usefixtures("quick_starts")
def test_every_seed_draws_its_own_split_and_the_verdict_knows_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    quick = ["--set", "training.epochs=1", "--set", "model={name: linear}", "--set", "tuning=null", "--json"]
    study = ["--set", "study.seeds=[0, 1]", "--set", "study.vary_split=true"]
    assert main(["run", "digits", "--root", str(tmp_path), *study, *quick]) == 0
    answer = json.loads(capsys.readouterr().out)
    (pair,) = answer["comparison"]["comparisons"]
    assert pair["other_images"]["degrees_of_freedom"] == 1
    assert pair["other_images"]["seed_variance"] is None
    trials = gather(load_run(answer["run"]).experiment, answer["run"]).trials
    fingerprints = {trial.training.seed: trial.training.data_fingerprint for trial in trials}
    assert len(set(fingerprints.values())) == 2
    assert all(trial.training.data_fingerprint == fingerprints[trial.training.seed] for trial in trials)
    assert len(list((tmp_path / "datasets" / "digits").iterdir())) == 2
    assert "corrected after Nadeau and Bengio" in Path(answer["report"]).read_text()


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        (["tuning={trials: 2, seeds: [100], metric: accuracy}"], "goes without tuning"),
        (
            [
                "data.source={kind: tfds, name: beans, test_split: test}",
                "data.split={train: 0.8, validation: 0.2, test: 0}",
            ],
            "needs a test split that is drawn",
        ),
    ],
)
def test_splits_that_vary_are_refused_where_images_would_be_seen_before(more: list[str], reason: str) -> None:
    with pytest.raises(ExperimentError, match=f"study.vary_split: {reason}"):
        load_experiment("digits", ["tuning=null", "study.vary_split=true", *more])
