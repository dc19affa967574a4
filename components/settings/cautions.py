"""The one place for cautions: why a study's verdict may mislead, before its run and after.

`cautions` is what `check`, `run`, `submit`, `compile`, `schedule create` and the report tell. The comparison
knows the study and its evaluations only, and tells that part. What can never work is refused here, too.
"""

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from optduel.components.core import ExperimentError, StorageError
from optduel.components.settings.arms import Arm
from optduel.components.settings.decay import convert, overshoots, strength
from optduel.components.settings.deployment import Deployment
from optduel.components.settings.experiment import Data, Experiment, Study
from optduel.components.settings.looks import seeds_needed
from optduel.components.settings.schedules import learning_rate, steps_per_epoch
from optduel.components.settings.search_cautions import search_cautions
from optduel.components.storage import is_remote, kind_of

COMPARABLE_FACTOR = 10
"""With decays, or rates at the end, further apart than this the arms compare these rather than optimizers."""

WIDE_HALF_INTERVAL = 0.02
"""A split is called small when it leaves an accuracy uncertain by more than 2 points, which two well-tuned
optimizers seldom differ by."""

UNBALANCED_FACTOR = 3
"""Between the largest and the smallest class: from there on accuracy is mostly about some of the classes."""

_NOMINAL_STEPS = 10_000
"""Of a run whose images are not counted yet: ratios between arms hardly depend on it."""


class _Bounds(Protocol):
    @property
    def low(self) -> float: ...

    @property
    def high(self) -> float: ...


class _Counted(Protocol):
    @property
    def name(self) -> str: ...

    @property
    def examples(self) -> int: ...


class Judged(Protocol):
    """What cautions need of an evaluation."""

    @property
    def split(self) -> str:
        """That it was made on: "test" or "validation"."""

    @property
    def examples(self) -> int:
        """Of the split."""

    @property
    def accuracy(self) -> _Bounds:
        """The interval of the accuracy for other images of the kind."""

    @property
    def classes(self) -> Sequence[_Counted]:
        """How many examples each class has."""


def cautions(
    experiment: Experiment, train_examples: int | None = None, evaluations: Sequence[Judged] = ()
) -> list[str]:
    """One sentence for each reason to doubt the verdict; none for a fair, sufficiently repeated comparison.

    Args:
        train_examples: of the training split, once the images are counted.
        evaluations: of all trials, on one split, once there are any.
    """
    data, challengers = experiment.data, len(experiment.arms) - 1
    has_test_split = data.split.test > 0 or data.source.has_test_split
    return [
        *(_absent_images(data) if train_examples is None else []),
        *study_cautions(experiment.study, challengers, evaluations),
        *([] if has_test_split or evaluations else [_NO_TEST_SPLIT]),
        *_large_batch(experiment, train_examples),
        *_different_schedules(experiment),
        *_unreached(experiment),
        *_cut_schedules(experiment),
        # Tuning finds how strong each arm's decay is to be; what it may find is looked at instead.
        *(
            _searches(experiment, train_examples)
            if experiment.tuning
            else _decays(experiment, train_examples)
        ),
        *_unused_searches(experiment),
    ]


def study_cautions(study: Study, challengers: int, evaluations: Sequence[Judged] = ()) -> list[str]:
    """Those that need the study and its evaluations only.

    Args:
        challengers: arms that are compared with the first.
        evaluations: as `cautions` takes them.
    """
    found = []
    seeds, needed = len(study.seeds), seeds_needed(study.confidence, challengers)
    level = f"{100 * study.confidence:.6g} %"
    if seeds == 1:
        found.append(
            f"study.seeds: one seed can never show a difference at {level}, because what the optimizer does "
            "and what chance does (initial weights, data order) cannot be told apart; give the study at "
            f"least {needed} seeds."
        )
    elif seeds < needed:
        found.append(
            f"study.seeds: {seeds} seeds can never show a difference at {level}; give the study at least "
            f"{needed}."
        )
    if not evaluations:
        return found
    widest = max(evaluations, key=lambda evaluation: evaluation.accuracy.high - evaluation.accuracy.low)
    if widest.split == "validation":
        found.append(_NO_TEST_SPLIT)
    half_width = (widest.accuracy.high - widest.accuracy.low) / 2
    if half_width > WIDE_HALF_INTERVAL:
        images = "1 image" if widest.examples == 1 else f"{widest.examples} images"
        found.append(
            f"The {widest.split} split has only {images}: for other images of the same kind an accuracy "
            f"measured on it is uncertain by up to {100 * half_width:.1f} points ({level})."
            f"{'' if study.vary_split else ' The seeds vary initial weights and data order, not the images.'}"
        )
    return found + _unbalanced(study, widest)


def _unbalanced(study: Study, evaluation: Judged) -> list[str]:
    counts = {entry.name: entry.examples for entry in evaluation.classes}
    if study.metric != "accuracy" or not counts:
        return []
    most, fewest = max(counts, key=counts.__getitem__), min(counts, key=counts.__getitem__)
    if counts[most] < UNBALANCED_FACTOR * counts[fewest]:
        return []
    share = counts[most] / sum(counts.values())
    return [
        f"study.metric = accuracy: the classes are unbalanced, from {counts[fewest]} images ({fewest}) to "
        f"{counts[most]} ({most}): always answering {most} would be right on {100 * share:.0f} %. Frequent "
        "classes decide the verdict; balanced_accuracy, macro_f1 or area_under_roc count all classes alike."
    ]


_NO_TEST_SPLIT = (
    "data.split.test = 0: there is no test split, so the metrics are taken on the validation split. Wherever "
    "a setting was chosen by looking at it, the numbers are too good."
)


def _absent_images(data: Data) -> list[str]:
    found = []
    for field, place in data.source.places.items():
        if is_remote(place):
            continue
        try:
            reason = "" if kind_of(place) else "is not on this machine."
        except StorageError as error:
            reason = str(error)
        found += [f"data.source.{field} = {place}: {reason}"] if reason else []
    return found


def _large_batch(experiment: Experiment, train_examples: int | None) -> list[str]:
    total, batch = experiment.data.source.example_count, experiment.training.global_batch_size
    if train_examples is None and total is not None:
        train_examples = round(total * experiment.data.split.train)
    if train_examples is None or batch <= train_examples:
        return []
    return [f"{oversized_batch(batch, train_examples)}. Training refuses it."]


def oversized_batch(batch: int, train_examples: int) -> str:
    """The rule that a batch larger than the training split breaks."""
    return (
        f"training.global_batch_size = {batch}: is larger than the training split, which has "
        f"{train_examples:,} images; take that many at most"
    )


def _different_schedules(experiment: Experiment) -> list[str]:
    arms = experiment.arms
    shapes = {arm.learning_rate.model_copy(update={"base": 1.0}) for arm in arms}
    if len(shapes) == 1:
        return []
    found = (
        "arms.*.learning_rate: the arms differ in schedule or warm-up. A difference between them may be one "
        "of these, not of optimizer."
    )
    ends = {arm.name: _end(arm, experiment.training.epochs) for arm in arms}
    low, high = min(ends, key=ends.__getitem__), max(ends, key=ends.__getitem__)
    if ends[high] > COMPARABLE_FACTOR * ends[low]:
        found += (
            f" At the end {high} trains at {_digits(100 * ends[high])} % of its base rate and {low} at "
            f"{_digits(100 * ends[low])} %."
        )
    return [found]


def _end(arm: Arm, epochs: int) -> float:
    """The rate of the last step, as a fraction of the base rate."""
    epoch_steps = _epoch_steps(epochs)
    last = np.array([epochs * epoch_steps - 1], np.float64)
    rate = learning_rate(arm.learning_rate, last, epoch_steps, epochs * epoch_steps)
    return float(rate[0]) / arm.learning_rate.base


def _epoch_steps(epochs: int) -> int:
    return max(_NOMINAL_STEPS // epochs, 1)


def _unreached(experiment: Experiment) -> list[str]:
    return [
        f"arms.{arm.name}.learning_rate.{reason}."
        for arm in experiment.arms
        for reason in arm.learning_rate.unreached(experiment.training.epochs)
    ]


def _unused_searches(experiment: Experiment) -> list[str]:
    named = [arm.name for arm in experiment.arms if arm.search]
    if not named or experiment.tuning:
        return []
    return [
        f"tuning = null: nothing is searched, so {', '.join(named)} train{'s' if len(named) == 1 else ''} as "
        "typed in. The comparison is as fair as these values are."
    ]


def _searches(experiment: Experiment, train_examples: int | None) -> list[str]:
    epochs, batch = experiment.training.epochs, experiment.training.global_batch_size
    epoch_steps = _epoch_steps(epochs) if train_examples is None else steps_per_epoch(train_examples, batch)
    return search_cautions([arm for arm in experiment.arms if arm.search], epoch_steps, epochs)


def _cut_schedules(experiment: Experiment) -> list[str]:
    rule, epochs = experiment.training.early_stopping, experiment.training.epochs
    falling = [arm.name for arm in experiment.arms if _end(arm, epochs) < 1]
    if rule is None or rule.patience >= epochs or not falling:
        return []
    return [
        f"training.early_stopping: a trial that ends early never comes to the low rates at the end of its "
        f"schedule ({', '.join(falling)}); with patience = {epochs} every trial trains to the end, and the "
        "best epoch's weights are kept all the same."
    ]


def _decays(experiment: Experiment, train_examples: int | None) -> list[str]:
    """Decays that do nothing, that do too much, that only some arms have, and that lie far apart."""
    arms, epochs, batch = experiment.arms, experiment.training.epochs, experiment.training.global_batch_size
    found = []
    shrinks: dict[str, float | None] = {}
    if train_examples is not None:
        decays = {arm.name: convert(arm, train_examples, batch, epochs) for arm in arms}
        shrinks = {name: decay.shrink_percent for name, decay in decays.items()}
        found += [
            f"{name}: its decay is practically zero. Over the whole run it shrinks a weight by "
            f"{_digits(shrinks[name])} %: this is the optimizer without decay."
            for name, decay in decays.items()
            if decay.is_negligible
        ]
    found += [
        f"{arm.name}: learning rate times weight decay is "
        f"{arm.decoupled_decay * arm.learning_rate.base:.3g}: above 1 a step takes away more than the whole "
        "weight, and weights grow."
        for arm in arms
        if overshoots(arm)
    ]
    epoch_steps = _epoch_steps(epochs) if train_examples is None else steps_per_epoch(train_examples, batch)
    strengths = {arm.name: strength(arm, epoch_steps, epochs) for arm in arms}
    active = sorted((value, name) for name, value in strengths.items() if value)
    without = [name for name, value in strengths.items() if value == 0]
    if active and without:
        found.append(
            f"{', '.join(without)}: no decay, while {', '.join(name for _, name in active)} "
            f"{'has' if len(active) == 1 else 'have'} some: with and without it is part of this comparison."
        )
    if active and active[-1][0] > COMPARABLE_FACTOR * active[0][0]:
        (least, weak), (most, strong) = active[0], active[-1]
        shrink = (
            f" Over the run decay shrinks a weight by {_digits(shrinks[weak])} % and by "
            f"{_digits(shrinks[strong])} %."
            if shrinks
            else ""
        )
        found.append(
            f"{weak} and {strong} are not regularized alike: summed over the steps of the run, decay is "
            f"{_digits(most / least)} times as strong in {strong}.{shrink} A difference between them may be "
            "one of decay, not of optimizer."
        )
    return found


def _digits(value: Any) -> str:
    """A number with two significant digits, or all of its digits where they are few."""
    return f"{value:,.0f}" if 99.5 <= abs(value) < 1e6 else f"{value:.2g}"


def refuse_misplaced(experiment: Experiment, deployment: Deployment) -> None:
    """Refuses what the deployment can never run.

    Raises:
        ExperimentError: all reasons, a line each.
    """
    workers = experiment.compute.workers
    problems = [
        f"{field} = {place}: is a place of this machine, which pods cannot read; name one in a "
        "store (a folder's path, the data_dir of TensorFlow Datasets, a model's file)"
        for field, place in experiment.places.items()
        if not is_remote(place)
    ]
    accelerators = deployment.train.accelerators
    if deployment.job is None and 0 < accelerators < workers:
        problems.append(
            f"compute.workers = {workers}: one pod with {accelerators} accelerator"
            f"{'' if accelerators == 1 else 's'} trains a trial in this deployment; take 1 worker, which "
            "uses all accelerators of the pod, or --deployment trainjob, which makes a pod for each worker"
        )
    if problems:
        raise ExperimentError("\n".join(problems))
