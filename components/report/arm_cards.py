"""The arms side by side: optimizer, schedule, and the decay in every convention."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from optduel.components.report.drawing import COLOURS
from optduel.components.settings import (
    Arm,
    Decay,
    Training,
    convert,
    learning_rates,
    steps_per_epoch,
)

SPARKLINE_POINTS = 60
SPARKLINE_WIDTH, SPARKLINE_HEIGHT = 120, 28


@dataclass(frozen=True)
class ArmCard:
    """One arm as the page shows it.

    Attributes:
        rates: the points of a sparkline, SVG coordinates.
    """

    name: str
    colour: str
    optimizer: str
    settings: str
    schedule: str
    rates: str
    decayed: str
    decay: Decay


def arm_cards(arms: Sequence[Arm], training: Training, train_examples: int) -> list[ArmCard]:
    """The arms in order.

    Args:
        arms: as they were trained.
    """
    return [_card(arm, COLOURS[index], training, train_examples) for index, arm in enumerate(arms)]


def _card(arm: Arm, colour: str, training: Training, train_examples: int) -> ArmCard:
    batch, epochs = training.global_batch_size, training.epochs
    rates = learning_rates(arm, steps_per_epoch(train_examples, batch), epochs)
    return ArmCard(
        name=arm.name,
        colour=colour,
        optimizer=arm.title,
        settings=arm.settings_text,
        schedule=arm.learning_rate.text,
        rates=_sparkline(rates),
        decayed=", ".join(arm.decayed),
        decay=convert(arm, train_examples, batch, epochs),
    )


def decay_notes(cards: Sequence[ArmCard]) -> dict[str, list[str]]:
    """Why conversions are missing or approximate, each with the arms it holds for."""
    notes: dict[str, list[str]] = {}
    for card in cards:
        if card.decay.note:
            notes.setdefault(card.decay.note, []).append(card.name)
    return notes


def _sparkline(rates: np.ndarray) -> str:
    """Points of an SVG polyline: the rate from 0 to its largest value over the run."""
    chosen = np.unique(np.linspace(0, len(rates) - 1, SPARKLINE_POINTS).round().astype(int))
    x = 2 + (SPARKLINE_WIDTH - 4) * (chosen / max(len(rates) - 1, 1))
    y = SPARKLINE_HEIGHT - 2 - (SPARKLINE_HEIGHT - 4) * rates[chosen] / rates.max()
    points = list(zip(x, y, strict=True))
    # One step is a dot, which a line of no length would not show.
    points = points if len(points) > 1 else [(2.0, points[0][1]), (SPARKLINE_WIDTH - 2.0, points[0][1])]
    return " ".join(f"{a:.1f},{b:.1f}" for a, b in points)
