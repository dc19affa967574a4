"""The paired comparison of arms over seeds."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from optduel.components.compare.cautions import cautions
from optduel.components.compare.inference import holm, sign_flip_p_value
from optduel.components.compare.pairing import pair
from optduel.components.compare.verdict import judge
from optduel.components.compare.wording import Metric
from optduel.components.results.documents import ArmSummary, Comparison, Trial, Trials
from optduel.components.settings.experiment import Study


def compare_arms(study: Study, arms: Sequence[str], trials: Trials) -> Comparison:
    """Compares every arm with the first one, paired by seed, in the study's metric.

    With several challengers the p-values are Holm-corrected, so that the chance of any false "shown" stays
    below 1 - confidence; the intervals are those of each comparison alone.

    Args:
        arms: names, two or more; the first is the baseline.

    Raises:
        DataError: a trial is missing or foreign, or the trials were not evaluated on one split.
    """
    paired = pair(arms, study.seeds, trials)
    baseline, *challengers = arms
    split = paired[baseline][0].evaluation.split
    base_values = _values(paired[baseline], study.metric)
    differences = {arm: _values(paired[arm], study.metric) - base_values for arm in challengers}
    p_values = _corrected([sign_flip_p_value(values) for values in differences.values()])
    return Comparison(
        split=split,
        arms=tuple(_summarize(arm, study.seeds, paired[arm]) for arm in arms),
        comparisons=tuple(
            judge(
                baseline,
                arm,
                study,
                split,
                values,
                p_value,
                len(challengers),
                _are_the_same(paired[baseline], paired[arm]),
            )
            for (arm, values), p_value in zip(differences.items(), p_values, strict=True)
        ),
        cautions=cautions(study, len(challengers), [trial.evaluation for trial in trials.trials]),
    )


def _are_the_same(one: Sequence[Trial], other: Sequence[Trial]) -> bool:
    metrics: tuple[Metric, ...] = ("accuracy", "cross_entropy")
    return all(np.array_equal(_values(one, metric), _values(other, metric)) for metric in metrics)


def _values(trials: Sequence[Trial], metric: Metric) -> NDArray[np.float64]:
    return np.array([getattr(trial.evaluation, metric).value for trial in trials], dtype=np.float64)


def _corrected(p_values: Sequence[float | None]) -> Sequence[float | None]:
    """Holm's correction; with one seed there is nothing to correct."""
    known = [p_value for p_value in p_values if p_value is not None]
    return holm(known) if known else p_values


def _summarize(arm: str, seeds: tuple[int, ...], trials: Sequence[Trial]) -> ArmSummary:
    accuracy, cross_entropy = _values(trials, "accuracy"), _values(trials, "cross_entropy")
    return ArmSummary(
        arm=arm,
        seeds=seeds,
        accuracy=tuple(accuracy.tolist()),
        cross_entropy=tuple(cross_entropy.tolist()),
        median_accuracy=float(np.median(accuracy)),
        median_cross_entropy=float(np.median(cross_entropy)),
    )
