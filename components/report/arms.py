"""The arms side by side: optimizer, schedule, and the decay in every convention."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from optduel.components.report.drawing import COLOURS
from optduel.components.report.numbers import significant
from optduel.components.settings import (
    COMPARABLE_FACTOR,
    AdamArm,
    AdamwArm,
    Arm,
    ConstantSchedule,
    CosineSchedule,
    Decay,
    Experiment,
    ExponentialSchedule,
    Schedule,
    SgdArm,
    SgdwArm,
    StepSchedule,
    Training,
    convert,
    equivalent_weight_decay,
    learning_rates,
    overshoots,
    schedules_differ,
    steps_per_epoch,
)

NEGLIGIBLE_SHRINK_PERCENT = 0.1
"""A decay that shrinks a weight by less than this over the whole run is called practically zero: those that
the paper finds best, lambda_norm 0.025 to 0.05, shrink by tens of percent (arXiv 1711.05101, appendix B)."""

SPARKLINE_POINTS = 60
SPARKLINE_WIDTH, SPARKLINE_HEIGHT = 120, 28


@dataclass(frozen=True)
class ArmCard:
    """One arm as the page shows it.

    Attributes:
        rates: the points of a sparkline, SVG coordinates.
        strength: learning rate times decoupled decay, summed over the steps of the run; unlike the shrinkage
            it tells strong decays apart. None where decay has no decoupled equivalent.
        overshoots: whether a step takes away more than a whole weight.
    """

    name: str
    colour: str
    optimizer: str
    settings: str
    schedule: str
    rates: str
    decayed: str
    decay: Decay
    strength: float | None
    overshoots: bool

    @property
    def is_negligible(self) -> bool:
        """Whether a decay is stated that does practically nothing."""
        return 0 < (self.decay.shrink_percent or 0) < NEGLIGIBLE_SHRINK_PERCENT


def arm_cards(experiment: Experiment, train_examples: int) -> list[ArmCard]:
    """The arms in the experiment's order."""
    return [
        _card(arm, COLOURS[index], experiment.training, train_examples)
        for index, arm in enumerate(experiment.arms)
    ]


def _card(arm: Arm, colour: str, training: Training, train_examples: int) -> ArmCard:
    batch, epochs = training.global_batch_size, training.epochs
    rates = learning_rates(arm, steps_per_epoch(train_examples, batch), epochs)
    weight_decay = equivalent_weight_decay(arm)
    return ArmCard(
        name=arm.name,
        colour=colour,
        optimizer=_optimizer(arm),
        settings=_settings(arm),
        schedule=_schedule(arm.learning_rate),
        rates=_sparkline(rates),
        decayed=", ".join(arm.decayed),
        decay=convert(arm, train_examples, batch, epochs),
        strength=None if weight_decay is None else weight_decay * float(rates.sum()),
        overshoots=overshoots(arm),
    )


def schedule_warnings(arms: Sequence[Arm]) -> list[str]:
    """Why arms may not be comparable as scheduled."""
    if not schedules_differ(arms):
        return []
    return [
        "The arms differ in schedule or warm-up: a difference between them may be one of these, not of "
        "optimizer."
    ]


def decay_warnings(cards: Sequence[ArmCard]) -> list[str]:
    """Why arms may not be comparable as regularized: a decay that does nothing, or decays far apart."""
    warnings = []
    for card in cards:
        if card.is_negligible:
            warnings.append(
                f"{card.name}: its decay is practically zero. Over the whole run it shrinks a weight by "
                f"{significant(card.decay.shrink_percent, 2)} %: this is the optimizer without decay."
            )
        if card.overshoots:
            warnings.append(
                f"{card.name}: learning rate times weight decay is above 1: a step takes away more than the "
                "whole weight, and weights grow."
            )
    active = sorted(((card.strength, card) for card in cards if card.strength), key=lambda found: found[0])
    without = [card.name for card in cards if card.strength == 0]
    if active and without:
        warnings.append(
            f"{', '.join(without)}: no decay, while {', '.join(card.name for _, card in active)} "
            f"{'has' if len(active) == 1 else 'have'} some: with and without it is part of this comparison."
        )
    if active and active[-1][0] > COMPARABLE_FACTOR * active[0][0]:
        (least, weak), (most, strong) = active[0], active[-1]
        warnings.append(
            f"{weak.name} and {strong.name} are not regularized alike: over the run decay shrinks a weight "
            f"by {significant(weak.decay.shrink_percent, 2)} % and by "
            f"{significant(strong.decay.shrink_percent, 2)} %, and summed over the steps it is "
            f"{significant(most / least, 2)} times as strong. A difference between them may be one of decay, "
            "not of optimizer."
        )
    return warnings


def decay_notes(cards: Sequence[ArmCard]) -> dict[str, list[str]]:
    """Why conversions are missing or approximate, each with the arms it holds for."""
    notes: dict[str, list[str]] = {}
    for card in cards:
        if card.decay.note:
            notes.setdefault(card.decay.note, []).append(card.name)
    return notes


def _optimizer(arm: Arm) -> str:
    match arm:
        case SgdArm():
            return "SGD + L2" if arm.l2 else "SGD"
        case SgdwArm():
            return "SGDW"
        case AdamArm():
            return "Adam + L2" if arm.l2 else "Adam"
        case AdamwArm():
            return "AdamW"


def _settings(arm: Arm) -> str:
    match arm:
        case SgdArm() | SgdwArm():
            return f"{'Nesterov ' if arm.nesterov else ''}momentum {arm.momentum:g}"
        case AdamArm() | AdamwArm():
            return f"β₁ {arm.beta_1:g}, β₂ {arm.beta_2:g}, ε {arm.epsilon:g}"


def _schedule(schedule: Schedule) -> str:
    match schedule:
        case ConstantSchedule():
            shape = f"{schedule.base:g}, constant"
        case CosineSchedule():
            shape = f"{schedule.base:g}, cosine to {schedule.base * schedule.final_fraction:g}"
        case ExponentialSchedule():
            shape = f"{schedule.base:g}, times {schedule.factor_per_epoch:g} an epoch"
        case StepSchedule():
            boundaries = ", ".join(f"{boundary:g}" for boundary in schedule.boundaries_epochs)
            shape = f"{schedule.base:g}, times {schedule.factor:g} at epoch {boundaries}"
    epochs = schedule.warmup_epochs
    return f"{shape}; warm-up {epochs:g} epoch{'' if epochs == 1 else 's'}" if epochs else shape


def _sparkline(rates: np.ndarray) -> str:
    """Points of an SVG polyline: the rate from 0 to its largest value over the run."""
    chosen = np.unique(np.linspace(0, len(rates) - 1, SPARKLINE_POINTS).round().astype(int))
    x = 2 + (SPARKLINE_WIDTH - 4) * (chosen / max(len(rates) - 1, 1))
    y = SPARKLINE_HEIGHT - 2 - (SPARKLINE_HEIGHT - 4) * rates[chosen] / rates.max()
    points = list(zip(x, y, strict=True))
    # One step is a dot, which a line of no length would not show.
    points = points if len(points) > 1 else [(2.0, points[0][1]), (SPARKLINE_WIDTH - 2.0, points[0][1])]
    return " ".join(f"{a:.1f},{b:.1f}" for a, b in points)
