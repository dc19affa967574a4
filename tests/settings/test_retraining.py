"""The settings of a retraining: what they leave alone, and what they refuse."""

import pytest

from optduel.components.core import ExperimentError
from optduel.pipeline.cli.shipped import load_experiment


def test_retraining_changes_no_number() -> None:
    plain = load_experiment("digits")
    retrained = load_experiment("digits", ["retraining={champion: digits, force: true, gate: {margin: 0.5}}"])
    assert retrained.fingerprint == plain.fingerprint
    assert retrained.retraining is not None
    assert plain.retraining is None


@pytest.mark.parametrize(
    ("assignments", "told"),
    [
        (
            ["retraining={champion: digits}", "tuning=null", "study.vary_split=true"],
            "goes without retraining, which judges on one split",
        ),
        (["retraining={}"], "retraining.champion: is required"),
        (["retraining={champion: Not A Name}"], "retraining.champion = 'Not A Name'"),
        (
            ["retraining={champion: digits, arm: sgd}"],
            "is no arm of the experiment; take one of sgd-l2, adamw",
        ),
        (["retraining={champion: digits, arm: adamw, mode: study}"], "mode study trains all arms"),
        (["retraining={champion: digits, seeds: [1, 1]}"], "must differ from each other"),
        (["retraining={champion: digits, gate: {rule: equal}}"], "must be one of non_inferior, superior"),
        (["retraining={champion: digits, gate: {margins: 1}}"], "did you mean 'margin'?"),
        (["retraining={champion: digits, gate: {margin: 0}}"], "must be greater than 0"),
        (
            ["retraining={champion: digits}", "data.split={train: 0.8, validation: 0.2, test: 0}"],
            "give data.split.test a fraction",
        ),
    ],
)
def test_every_mistake_is_told(assignments: list[str], told: str) -> None:
    with pytest.raises(ExperimentError) as caught:
        load_experiment("digits", assignments)
    assert told in str(caught.value)
