"""The paired comparison of arms over seeds."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from optduel.components.compare.inference import holm, sign_flip_p_value
from optduel.components.compare.summary import markdown, scalars
from optduel.components.compare.verdict import judge
from optduel.components.compare.wording import Metric
from optduel.components.core import DataError, say
from optduel.components.results import (
    ArmSummary,
    Comparison,
    Trial,
    Trials,
    read_document,
    run_folder,
    trial_document,
    write_document,
)
from optduel.components.settings import Study, decode, study_cautions
from optduel.components.storage import publish, stat


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
        cautions=tuple(
            study_cautions(study, len(challengers), [trial.evaluation for trial in trials.trials])
        ),
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


def collect(trials: Sequence[Trial]) -> Trials:
    """Trials as one document, in order.

    Raises:
        DataError: a trial's parts belong to different models, a trial comes twice, or two trials were
            trained on different records.
    """
    gathered = tuple(trials)
    seen: set[tuple[str, int]] = set()
    for trial in gathered:
        training, evaluation = trial.training, trial.evaluation
        name = trial_name(trial)
        for part in ("arm", "seed", "model_sha256"):
            trained, evaluated = getattr(training, part), getattr(evaluation, part)
            if trained != evaluated:
                raise DataError(
                    f"{name}: {part} = {evaluated} was evaluated, {trained} trained; evaluate again"
                )
        if (training.arm, training.seed) in seen:
            raise DataError(f"{name}: is there twice; a repeated seed is no new evidence")
        if training.data_fingerprint != gathered[0].training.data_fingerprint:
            raise DataError(
                f"{name}: data = {training.data_fingerprint}, but {trial_name(gathered[0])} was trained on "
                f"{gathered[0].training.data_fingerprint}; run the study again"
            )
        seen.add((training.arm, training.seed))
    return Trials(trials=gathered)


def trial_name(trial: Trial) -> str:
    """How messages call a trial."""
    return f"trial {trial.training.arm}, seed {trial.training.seed}"


def pair(arms: Sequence[str], seeds: Sequence[int], trials: Trials) -> dict[str, tuple[Trial, ...]]:
    """The trials of each arm, one per seed, in the order of `seeds`.

    Raises:
        DataError: a trial is missing or not part of the study, or the trials were not evaluated on one split.
    """
    found = {(trial.training.arm, trial.training.seed): trial for trial in trials.trials}
    wanted = [(arm, seed) for arm in arms for seed in seeds]
    missing = [key for key in wanted if key not in found]
    foreign = [key for key in found if key not in wanted]
    if missing or foreign:
        problems = [f"trial {arm}, seed {seed}: is missing" for arm, seed in missing]
        problems += [f"trial {arm}, seed {seed}: is not part of the study" for arm, seed in foreign]
        raise DataError("\n".join(["trials: do not pair up by seed; run the study again", *problems]))
    first = found[wanted[0]]
    for trial in found.values():
        if _evaluated_on(trial) != _evaluated_on(first):
            raise DataError(
                f"{trial_name(trial)}: was evaluated on {_evaluated_on(trial)}, but {trial_name(first)} on "
                f"{_evaluated_on(first)}; evaluate again"
            )
    return {arm: tuple(found[arm, seed] for seed in seeds) for arm in arms}


def _evaluated_on(trial: Trial) -> str:
    return f"{trial.evaluation.examples} examples of the {trial.evaluation.split} split"


def compare_documents(
    study: str, arms: str, root: str, run: str, collected: Path, comparison: Path, summary: Path
) -> dict[str, float | str]:
    """Gathers the trials, compares the arms, and writes trials, comparison and a Markdown page about it.

    Args:
        study: the experiment's section, JSON.
        arms: names in the experiment's order, a JSON list; the first is the baseline.
        root: of datasets and runs, a path or a URI.
        run: the run's name, unique below root.

    Returns:
        Names and values for KFP's table of metrics.

    Raises:
        DataError: a trial is missing, the trials do not belong together, or were not evaluated on one split.
        StorageError: a document cannot be read or written.
    """
    questions, names = decode(Study, study, "study"), json.loads(arms)
    folder = run_folder(root, run)
    places = [trial_document(folder, arm, seed) for arm in names for seed in questions.seeds]
    trials = collect([read_document(place, Trial) for place in places if stat(place)])
    result = compare_arms(questions, names, trials)
    write_document(collected, trials)
    write_document(comparison, result)
    publish(summary, markdown(questions, result).encode())
    for compared in result.comparisons:
        say(f"verdict: {compared.sentence}")
    say(f"compare: {len(result.arms)} arms, {len(questions.seeds)} paired seed(s), by {questions.metric}")
    return scalars(result)
