"""The choose stage's one call: from what all settings came to, to the setting that each arm trains with."""

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path

from optduel.components.choose.coupling import claims, coupling
from optduel.components.choose.curves import lead, tuning_curve
from optduel.components.choose.ranking import doubts, ranked
from optduel.components.core import DataError, say
from optduel.components.report.tuning_page import tuning_page
from optduel.components.results import (
    CHOICE_NAME,
    ArmChoice,
    Choice,
    TaskCost,
    TimeToTarget,
    TunedSetting,
    TunedSettings,
    TunedTrial,
    TuningCost,
    read_document,
    run_folder,
    sum_costs,
    task_costs,
    tuned_part,
    tuning_task,
    write_document,
)
from optduel.components.settings import Arm, Experiment, Tuning, canonical_json, decode
from optduel.components.storage import join, publish

UNEQUAL_FACTOR = 1.1
"""Arms whose optimizer steps differ more than this spent unequal compute: diverged settings end early."""


def choose_settings(
    experiment: str, root: str, run: str, page: Path, metrics_file: Path
) -> tuple[str, dict[str, float | str]]:
    """Ranks the settings of every arm, and tells the best.

    Args:
        experiment: the whole experiment, JSON.
        root: of datasets, trials and runs, a path or a URI.
        run: the run's name, unique below root.
        page: where the HTML page about the tuning goes.
        metrics_file: where the numbers go, as JSON.

    Returns:
        What was chosen, JSON: values by path, by arm; and names and values for KFP's table of metrics.

    Raises:
        DataError: a part is missing, or belongs to another tuning.
        ExperimentError: all settings of an arm diverged.
        StorageError: a document cannot be read or written.
    """
    study = decode(Experiment, experiment, "experiment")
    if study.tuning is None:
        raise DataError("experiment.tuning: is not set, so there is nothing to choose")
    folder = run_folder(root, run)
    found = {arm.name: _gather(folder, arm, study.tuning) for arm in study.arms}
    choice = choose(study, study.tuning, found, task_costs(root, run))
    write_document(join(folder, CHOICE_NAME), choice)
    publish(page, tuning_page(study, choice).encode())
    numbers = scalars(choice)
    publish(metrics_file, canonical_json(numbers).encode())
    for arm in choice.arms:
        values = ", ".join(f"{path} = {value:.4g}" for path, value in arm.values.items())
        say(f"choose {arm.arm}: setting {arm.chosen} of {len(arm.settings)}: {values}")
    for warning in (*choice.warnings, *(warning for arm in choice.arms for warning in arm.warnings)):
        say(f"choose: {warning}")
    say(f"choose: {choice.lead}")
    return canonical_json(choice.chosen()), numbers


def _gather(folder: str, arm: Arm, tuning: Tuning) -> list[TunedSetting]:
    """All settings of an arm, in order."""
    parts = [read_document(tuned_part(folder, arm.name, part), TunedSettings) for part in range(tuning.tasks)]
    settings = sorted((one for part in parts for one in part.settings), key=lambda one: one.number)
    if [one.number for one in settings] != list(range(1, tuning.trials + 1)):
        raise DataError(
            f"{folder}: settings of {arm.name} = {[one.number for one in settings]}: must be 1 to "
            f"{tuning.trials}; tune again"
        )
    return settings


def choose(
    experiment: Experiment,
    tuning: Tuning,
    found: Mapping[str, Sequence[TunedSetting]],
    costs: Sequence[TaskCost] = (),
) -> Choice:
    """The choice among what was found.

    Args:
        found: the settings of every arm, by its name.
        costs: of the run's tasks that have ended.

    Raises:
        ExperimentError: all settings of an arm diverged.
    """
    metric, confidence = tuning.metric, experiment.study.confidence
    # Bands of several arms hold together: Bonferroni.
    each = 1 - (1 - confidence) / len(experiment.arms)
    every_setting = [one for settings in found.values() for one in settings]
    epoch_steps = _epoch_steps([trial for one in every_setting for trial in one.trials])
    arms = []
    for arm in experiment.arms:
        order = ranked(arm.name, found[arm.name], metric)
        arms.append(
            ArmChoice(
                arm=arm.name,
                chosen=order[0].number,
                values=order[0].values,
                typed={path: arm.numbers[path] for path in order[0].values},
                settings=tuple(order),
                curve=tuning_curve(found[arm.name], metric, tuning.sampler, each),
                coupling=coupling(arm, order),
                cost=_cost(order, epoch_steps, [one for one in costs if one.task == tuning_task(arm.name)]),
                target=_target(order, tuning),
                warnings=tuple(doubts(arm, order, metric)),
            )
        )
    return Choice(
        metric=metric,
        sampler=tuning.sampler,
        seeds=tuning.seeds,
        confidence=confidence,
        arms=tuple(arms),
        lead=lead({arm.arm: arm.curve for arm in arms}, metric, confidence),
        warnings=tuple(_unequal(arms)),
        claims=tuple(claims(experiment.arms, found)),
    )


def _epoch_steps(trials: Sequence[TunedTrial]) -> float:
    rows = [trial.validation[-1] for trial in trials if trial.validation]
    return rows[0].step / rows[0].epoch if rows else float("inf")


def _cost(settings: Sequence[TunedSetting], epoch_steps: float, costs: Sequence[TaskCost]) -> TuningCost:
    trials = [trial for one in settings for trial in one.trials]
    steps = sum(trial.steps for trial in trials)
    return TuningCost(
        settings=len(settings),
        trials=len(trials),
        diverged=sum(trial.diverged is not None for trial in trials),
        steps=steps,
        epochs=steps / epoch_steps,
        worker_seconds=sum(trial.seconds * trial.workers for trial in trials),
        spent=sum_costs(costs),
    )


def _target(settings: Sequence[TunedSetting], tuning: Tuning) -> TimeToTarget | None:
    target = tuning.target
    if target is None:
        return None

    def reached(trial: TunedTrial) -> tuple[float, float]:
        for row in trial.validation:
            value = getattr(row, tuning.metric)
            if value <= target if tuning.metric == "cross_entropy" else value >= target:
                return float(row.epoch), row.wall_seconds
        return float("inf"), float("inf")

    def median(one: TunedSetting, place: int) -> float | None:
        value = statistics.median(reached(trial)[place] for trial in one.trials)
        return None if value == float("inf") else value

    return TimeToTarget(
        target=target,
        epochs=median(settings[0], 0),
        seconds=median(settings[0], 1),
        settings=sum(median(one, 0) is not None for one in settings),
    )


def _unequal(arms: Sequence[ArmChoice]) -> list[str]:
    steps = {arm.arm: arm.cost.steps for arm in arms}
    least, most = min(steps, key=steps.__getitem__), max(steps, key=steps.__getitem__)
    if steps[most] <= UNEQUAL_FACTOR * steps[least]:
        return []
    diverged = {arm.arm: arm.cost.diverged for arm in arms}
    return [
        f"The arms spent unequal compute: {most} {steps[most]:,} optimizer steps and {least} "
        f"{steps[least]:,}, of whose trials {diverged[least]} diverged and ended early."
    ]


def scalars(choice: Choice) -> dict[str, float | str]:
    """Names and values for KFP's table of metrics and its compare page: those of an arm side by side."""
    numbers: dict[str, float | str] = {}
    for arm in choice.arms:
        best = arm.settings[0].median(choice.metric)
        numbers[f"{arm.arm} validation {choice.metric}"] = best if best is not None else "diverged"
        numbers |= {f"{arm.arm} {path}": value for path, value in arm.values.items()}
        numbers[f"{arm.arm} settings"] = float(arm.cost.settings)
        numbers[f"{arm.arm} diverged"] = float(arm.cost.diverged)
        numbers[f"{arm.arm} worker-seconds"] = arm.cost.worker_seconds
        if arm.cost.spent.price is not None:
            numbers[f"{arm.arm} price in {arm.cost.spent.currency}"] = arm.cost.spent.price
        if arm.coupling:
            numbers[f"{arm.arm} coupling"] = arm.coupling.slope
        numbers[f"{arm.arm} warnings"] = float(len(arm.warnings))
    return numbers
