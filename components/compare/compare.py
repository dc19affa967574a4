"""The paired comparison of arms over seeds."""

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from optduel.components.compare.crossed import Estimate, Variances, per_image, resampled, variance_components
from optduel.components.compare.inference import SignFlips, holm
from optduel.components.compare.summary import markdown, scalars
from optduel.components.compare.verdict import Evidence, judge
from optduel.components.compare.wording import significance_level
from optduel.components.core import DataError, say
from optduel.components.results import (
    COMPARISON_NAME,
    EXPERIMENT_NAME,
    ArmSummary,
    Comparison,
    DivergedTrial,
    Predictions,
    Trial,
    Trials,
    divergence_cautions,
    epochs_of,
    predictions_file,
    read_predictions,
    read_trial_end,
    run_folder,
    trial_document,
    write_document,
)
from optduel.components.settings import Experiment, Metric, Study, decode, study_cautions
from optduel.components.storage import join, publish, stat

TrialKey = tuple[str, int]
"""Arm and seed."""


def compare_arms(
    study: Study, arms: Sequence[str], trials: Trials, predictions: Mapping[TrialKey, Predictions]
) -> Comparison:
    """Compares every arm with the first one, paired by seed, in the study's metric.

    Seeds on which an arm diverged are compared for no arm, see `Trials.paired`.

    With several challengers the p-values are Holm-corrected, so that the chance of any false "shown" stays
    below 1 - confidence; the intervals are those of each comparison alone.

    Args:
        arms: names, two or more; the first is the baseline.
        predictions: of every trial that is compared.

    Raises:
        DataError: a trial is missing or foreign, the trials were not evaluated on one split, predictions are
            of other models or images, or the metric has no value.
    """
    paired = pair(arms, study, trials)
    _check_predictions(paired, predictions, study.vary_split)
    lost = {
        arm: tuple(trial.training.seed for trial in trials.diverged if trial.training.arm == arm)
        for arm in arms
    }
    baseline, *challengers = arms
    split = (trials.trials[0].evaluation if trials.trials else trials.diverged[0]).split
    found = {
        arm: _evidence(study, paired[baseline], paired[arm], predictions, lost[baseline] == lost[arm])
        for arm in challengers
    }
    level = significance_level(study.confidence)
    p_values = _corrected([one.flips.p_value(level) if one.flips else None for one in found.values()])
    # In the units of `level`, as if there were one look.
    of_images = _corrected(
        [min(one.estimate.p_value * level / one.level, 1) if one.estimate else None for one in found.values()]
    )
    return Comparison(
        split=split,
        arms=tuple(_summarize(arm, study.metric, paired[arm], lost[arm]) for arm in arms),
        comparisons=tuple(
            judge(
                baseline,
                arm,
                study,
                split,
                evidence,
                p_value,
                p_of_images,
                len(challengers),
                {name: len(lost[name]) for name in (baseline, arm)},
            )
            for (arm, evidence), p_value, p_of_images in zip(found.items(), p_values, of_images, strict=True)
        ),
        cautions=(
            *divergence_cautions(arms, study.seeds, trials),
            *study_cautions(study, len(challengers), [trial.evaluation for trial in trials.trials]),
        ),
    )


def _evidence(
    study: Study,
    base: Sequence[Trial],
    other: Sequence[Trial],
    predictions: Mapping[TrialKey, Predictions],
    diverged_alike: bool,
) -> Evidence:
    # Arms that finished at all have the same seeds; one that did not has none.
    base, other = (base, other) if base and other else ((), ())
    seeds = tuple(trial.training.seed for trial in base)
    differences = _values(other, study.metric) - _values(base, study.metric)
    # A seed that is left out is no evidence, and a look is what it left.
    looks = [sum(seed in seeds for seed in study.seeds[:look]) for look in study.looks]
    variances: Variances | None = None
    estimate: Estimate | None = None
    examples = len(predictions[_key(base[0])].labels) if base else 0
    if len(seeds) > 1 and study.vary_split:
        estimate = resampled(differences, examples / epochs_of(base[0].history, "train")[-1].examples)
    elif len(seeds) > 1 and examples > 1:
        table = _by_image(other, study.metric, predictions) - _by_image(base, study.metric, predictions)
        variances = variance_components(table)
        estimate = variances.estimate(float(differences.mean()), len(seeds), examples)
    past = tuple(sorted(set(looks) - {0}))
    flips = SignFlips(differences, past) if len(seeds) > 1 else None
    return Evidence(
        seeds=seeds,
        looks=past,
        differences=differences,
        flips=flips,
        estimate=estimate,
        level=flips.level_left(significance_level(study.confidence)) if flips else 0,
        variances=variances,
        examples=examples,
        are_the_same=diverged_alike and _are_the_same(base, other),
    )


def _by_image(
    trials: Sequence[Trial], metric: Metric, predictions: Mapping[TrialKey, Predictions]
) -> NDArray[np.float64]:
    """Float64 [seeds, examples]; the mean of a row is the trial's metric."""
    return np.stack([per_image(metric, predictions[_key(trial)]) for trial in trials])


def _are_the_same(one: Sequence[Trial], other: Sequence[Trial]) -> bool:
    metrics: tuple[Metric, ...] = ("accuracy", "cross_entropy")
    return bool(one) and all(
        np.array_equal(_values(one, metric), _values(other, metric)) for metric in metrics
    )


def _values(trials: Sequence[Trial], metric: Metric) -> NDArray[np.float64]:
    """Of each trial; float64 [seeds]."""
    values = [trial.evaluation.value(metric) for trial in trials]
    if None in values:
        raise DataError(
            f"study.metric = {metric}: has no value where all images are of one class; give the data set a "
            f"larger {trials[0].evaluation.split} split, or take another metric"
        )
    return np.array(values, dtype=np.float64)


def _check_predictions(
    paired: Mapping[str, Sequence[Trial]], predictions: Mapping[TrialKey, Predictions], vary_split: bool
) -> None:
    """Predictions of other models, or of images that do not pair up, would be a comparison of nothing."""
    references: dict[int, Predictions] = {}
    for trial in itertools.chain.from_iterable(paired.values()):
        found = predictions[_key(trial)]
        reference = references.setdefault(trial.training.seed if vary_split else 0, found)
        if found.model_sha256 != trial.evaluation.model_sha256:
            raise DataError(f"{trial_name(trial)}: its predictions are of another model; evaluate again")
        if found.examples != reference.examples:
            raise DataError(f"{trial_name(trial)}: its predictions are of other images; evaluate again")


def _corrected(p_values: Sequence[float | None]) -> Sequence[float | None]:
    """Holm's correction, of all comparisons; those with one seed or none have no p-value."""
    known = iter(holm([1.0 if p_value is None else p_value for p_value in p_values]))
    return [
        None if p_value is None else corrected for p_value, corrected in zip(p_values, known, strict=True)
    ]


def _summarize(arm: str, metric: Metric, trials: Sequence[Trial], diverged: tuple[int, ...]) -> ArmSummary:
    accuracy, cross_entropy = _values(trials, "accuracy"), _values(trials, "cross_entropy")
    scores = _values(trials, metric)
    return ArmSummary(
        arm=arm,
        seeds=tuple(trial.training.seed for trial in trials),
        diverged=diverged,
        accuracy=tuple(accuracy.tolist()),
        cross_entropy=tuple(cross_entropy.tolist()),
        scores=tuple(scores.tolist()),
        median_accuracy=float(np.median(accuracy)) if trials else None,
        median_cross_entropy=float(np.median(cross_entropy)) if trials else None,
        median_score=float(np.median(scores)) if trials else None,
    )


def collect(trials: Sequence[Trial | DivergedTrial], vary_split: bool = False) -> Trials:
    """Trials as one document, in order.

    Args:
        vary_split: whether every seed has records of its own.

    Raises:
        DataError: a trial's parts belong to different models, a trial comes twice, or two trials that belong
            together were trained on different records.
    """
    gathered = tuple(trials)
    seen: set[TrialKey] = set()
    firsts: dict[int, Trial | DivergedTrial] = {}
    for trial in gathered:
        training, name = trial.training, trial_name(trial)
        evaluation = trial.evaluation if isinstance(trial, Trial) else None
        for part in ("arm", "seed", "model_sha256") if evaluation else ():
            trained, evaluated = getattr(training, part), getattr(evaluation, part)
            if trained != evaluated:
                raise DataError(
                    f"{name}: {part} = {evaluated} was evaluated, {trained} trained; evaluate again"
                )
        if (training.arm, training.seed) in seen:
            raise DataError(f"{name}: is there twice; a repeated seed is no new evidence")
        first = firsts.setdefault(training.seed if vary_split else 0, trial)
        if training.data_fingerprint != first.training.data_fingerprint:
            raise DataError(
                f"{name}: data = {training.data_fingerprint}, but {trial_name(first)} was trained on "
                f"{first.training.data_fingerprint}; run the study again"
            )
        seen.add((training.arm, training.seed))
    return Trials(
        trials=tuple(trial for trial in gathered if isinstance(trial, Trial)),
        diverged=tuple(trial for trial in gathered if isinstance(trial, DivergedTrial)),
    )


def trial_name(trial: Trial | DivergedTrial) -> str:
    """How messages call a trial."""
    return f"trial {trial.training.arm}, seed {trial.training.seed}"


def _key(trial: Trial | DivergedTrial) -> TrialKey:
    return trial.training.arm, trial.training.seed


def pair(arms: Sequence[str], study: Study, trials: Trials) -> dict[str, tuple[Trial, ...]]:
    """The trials of each arm that are compared, one per seed, in the order of the study's seeds.

    Raises:
        DataError: a trial is missing or not part of the study, or the trials were not evaluated on one split.
    """
    ended = trials.ended()
    wanted = [(arm, seed) for arm in arms for seed in study.seeds]
    missing = [key for key in wanted if key not in ended]
    foreign = [key for key in ended if key not in wanted]
    if missing or foreign:
        problems = [f"trial {arm}, seed {seed}: is missing" for arm, seed in missing]
        problems += [f"trial {arm}, seed {seed}: is not part of the study" for arm, seed in foreign]
        raise DataError("\n".join(["trials: do not pair up by seed; run the study again", *problems]))
    firsts: dict[int, Trial] = {}
    for trial in trials.trials:
        first = firsts.setdefault(trial.training.seed if study.vary_split else 0, trial)
        if _evaluated_on(trial) != _evaluated_on(first):
            raise DataError(
                f"{trial_name(trial)}: was evaluated on {_evaluated_on(trial)}, but {trial_name(first)} on "
                f"{_evaluated_on(first)}; evaluate again"
            )
    left = {_key(trial): trial for trial in trials.paired().trials}
    return {arm: tuple(left[arm, seed] for seed in study.seeds if (arm, seed) in left) for arm in arms}


def _evaluated_on(trial: Trial) -> str:
    return f"{trial.evaluation.examples} examples of the {trial.evaluation.split} split"


def gather(experiment: Experiment, folder: str) -> Trials:
    """All trials of a run, once they are there.

    Args:
        folder: the run's, a path or a URI.

    Raises:
        DataError: a trial is missing, or the trials do not belong together.
        StorageError: a document cannot be read.
    """
    wanted = [(arm.name, seed) for arm in experiment.arms for seed in experiment.study.seeds]
    places = {(arm, seed): trial_document(folder, arm, seed) for arm, seed in wanted}
    found = {trial: place for trial, place in places.items() if stat(place)}
    if missing := sorted(places.keys() - found.keys()):
        told = [f"trial {arm}, seed {seed}: is missing" for arm, seed in missing]
        count = f"{len(missing)} of {len(places)} trials are missing"
        raise DataError(
            "\n".join([f"{folder}: {count}; run the study again: it takes the others over", *told])
        )
    return collect([read_trial_end(place) for place in found.values()], experiment.study.vary_split)


def gather_predictions(trials: Trials, folder: str) -> dict[TrialKey, Predictions]:
    """Those of all trials that are compared.

    Args:
        folder: the run's, a path or a URI.

    Raises:
        DataError: predictions are damaged.
        StorageError: they cannot be read.
    """
    compared = [_key(trial) for trial in trials.paired().trials]
    return {key: read_predictions(predictions_file(folder, *key)) for key in compared}


def compare_documents(
    experiment: str, root: str, run: str, collected: Path, comparison: Path, summary: Path
) -> dict[str, float | str]:
    """Gathers the trials, compares the arms, and writes trials, comparison and a Markdown page about it.

    Args:
        experiment: the whole experiment, JSON; its first arm is the baseline.
        root: of datasets and runs, a path or a URI.
        run: the run's name, unique below root.

    Returns:
        Names and values for KFP's table of metrics.

    Raises:
        DataError: a trial is missing, the trials do not belong together, or were not evaluated on one split.
        StorageError: a document cannot be read or written.
    """
    whole = decode(Experiment, experiment, "experiment")
    questions, names, folder = whole.study, [arm.name for arm in whole.arms], run_folder(root, run)
    # Whatever fails from here on: with it and the trials a report can be made.
    publish(join(folder, EXPERIMENT_NAME), whole.canonical_json().encode())
    trials = gather(whole, folder)
    result = compare_arms(questions, names, trials, gather_predictions(trials, folder))
    write_document(collected, trials)
    write_document(comparison, result)
    write_document(join(folder, COMPARISON_NAME), result)
    publish(summary, markdown(questions, result).encode())
    for caution in divergence_cautions(names, questions.seeds, trials):
        say(f"caution: {caution}")
    for compared in result.comparisons:
        say(f"verdict: {compared.sentence}")
    pairs = sorted({len(compared.seeds) for compared in result.comparisons})
    counts = " or ".join(str(count) for count in pairs)
    say(f"compare: {len(result.arms)} arms, {counts} paired seed(s), by {questions.metric}")
    return scalars(result)
