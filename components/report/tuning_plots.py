"""The figures of a tuning: curves over the budget, and the map of learning rate and decay for each arm."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from optduel.components.report.drawing import COLOURS, MARKERS, Axes, Figure, MaxNLocator
from optduel.components.results import ArmChoice, Choice, TunedSetting
from optduel.components.settings import Arm, decay_coefficient

CIRCLED = 10
"""So many of the best settings are circled, as in figure 2 of arXiv 1711.05101."""

_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
_MAPS_IN_A_ROW = 2

Point = tuple[float, float]


def curves_figure(choice: Choice) -> Figure:
    """The median of the best validation score of so many settings, with its band, for each arm."""
    figure = Figure(figsize=(7.5, 4.2), layout="constrained")
    axes = figure.subplots()
    for index, arm in enumerate(choice.arms):
        budgets = [point.trials for point in arm.curve]
        values = [point.value for point in arm.curve]
        colour = COLOURS[index]
        axes.plot(budgets, values, color=colour, marker=MARKERS[index], markersize=4, label=arm.arm)
        banded = [point for point in arm.curve if point.low is not None or point.high is not None]
        if banded:
            worst, best = (0.0, 1.0) if choice.metric == "accuracy" else (max(values) * 4, 0.0)
            ends = sorted((worst, best))
            low = [ends[0] if point.low is None else point.low for point in banded]
            high = [ends[1] if point.high is None else point.high for point in banded]
            axes.fill_between(
                [point.trials for point in banded], low, high, color=colour, alpha=0.13, linewidth=0
            )
    # What the lines need: a band of few settings reaches from one end of the scale to the other.
    found = [point.value for arm in choice.arms for point in arm.curve]
    if found:
        margin = max(0.6 * (max(found) - min(found)), 1e-3)
        axes.set_ylim(max(min(found) - margin, 0), max(found) + margin)
    axes.set_title("Tuning curves")
    axes.set_xlabel("settings tried")
    axes.set_ylabel(f"best validation {choice.metric.replace('_', '-')}, median")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend(loc="best", fontsize="small")
    return figure


def mapped(arms: Sequence[Arm]) -> list[Arm]:
    """The arms that have a map: those that search learning rate and decay."""
    return [arm for arm in arms if {"learning_rate.base", arm.decay_field} <= arm.search.keys()]


def maps_figure(arms: Sequence[Arm], choice: Choice) -> Figure | None:
    """Validation score over learning rate and decay, a panel for each arm, on common axes and colours.

    Args:
        arms: of the experiment, as they are typed in.
    """
    shown = mapped(arms)
    if not shown:
        return None
    choices = {one.arm: one for one in choice.arms}
    columns = min(len(shown), _MAPS_IN_A_ROW)
    rows = math.ceil(len(shown) / columns)
    figure = Figure(figsize=(4.6 * columns + 1.2, 4.2 * rows), layout="constrained")
    panels = np.atleast_1d(figure.subplots(rows, columns, sharex=True, sharey=True)).ravel()
    points = {arm.name: _points(arm, choices[arm.name].settings, _floor(shown, choices)) for arm in shown}
    x_limits, y_limits = _limits(np.concatenate(list(points.values())))
    scale = _scale(choice)
    drawn = None
    for axes, arm in zip(panels, shown, strict=False):
        drawn = _draw_map(axes, arm, choices[arm.name], points[arm.name], choice, scale) or drawn
        _draw_products(axes, x_limits, y_limits)
        axes.set(xlim=x_limits, ylim=y_limits, title=arm.name)
        axes.xaxis.set_major_formatter(_power)
        axes.yaxis.set_major_formatter(_power)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=7))
        axes.yaxis.set_major_locator(MaxNLocator(integer=True, nbins=8))
    for axes in panels[len(shown) :]:
        axes.set_visible(False)
    figure.supxlabel("learning rate")
    figure.supylabel("decay: 2 × l2, or weight_decay")
    if drawn is not None:
        figure.colorbar(
            drawn, ax=list(panels[: len(shown)]), label=f"validation {choice.metric.replace('_', '-')}"
        )
    return figure


def _power(value: float, position: int) -> str:
    return f"2{str(round(value)).translate(_SUPERSCRIPTS)}" if abs(value - round(value)) < 1e-6 else ""


def _floor(arms: Sequence[Arm], choices: Mapping[str, ArmChoice]) -> float:
    """Where no decay at all is drawn: two powers of two below the weakest."""
    decays = [decay_coefficient(arm, one.values) for arm in arms for one in choices[arm.name].settings]
    positive = [math.log2(decay) for decay in decays if decay > 0]
    return min(positive, default=0.0) - 2


def _points(arm: Arm, settings: Sequence[TunedSetting], floor: float) -> NDArray[np.float64]:
    """Places of the settings: float64 [n, 2], powers of two."""
    found = []
    for one in settings:
        decay = decay_coefficient(arm, one.values)
        found.append((math.log2(one.values["learning_rate.base"]), math.log2(decay) if decay > 0 else floor))
    return np.array(found, dtype=np.float64)


def _limits(points: NDArray[np.float64]) -> tuple[Point, Point]:
    low, high = points.min(axis=0) - 1, points.max(axis=0) + 1
    return (float(low[0]), float(high[0])), (float(low[1]), float(high[1]))


def _scale(choice: Choice) -> Point:
    """The colours' ends: the best score, and one that leaves hopeless settings one colour."""
    medians = [one.median(choice.metric) for arm in choice.arms for one in arm.settings]
    found = np.array([median for median in medians if median is not None])
    if choice.metric == "accuracy":
        best, middle = found.max(), np.median(found)
        return float(max(found.min(), best - 4 * (best - middle) - 1e-3)), float(best)
    best, middle = found.min(), np.median(found)
    return float(best), float(min(found.max(), best + 4 * (middle - best) + 1e-3))


def _draw_map(
    axes: Axes,
    arm: Arm,
    found: ArmChoice,
    points: NDArray[np.float64],
    choice: Choice,
    scale: Point,
) -> Any:
    scores = np.array([np.nan if (m := s.median(choice.metric)) is None else m for s in found.settings])
    is_loss = choice.metric == "cross_entropy"
    colours: dict[str, Any] = {
        "cmap": "viridis_r" if is_loss else "viridis",
        "vmin": scale[0],
        "vmax": scale[1],
    }
    columns, lines = np.unique(points[:, 0].round(6)), np.unique(points[:, 1].round(6))
    drawn: Any
    if len(columns) * len(lines) == len(points) and min(len(columns), len(lines)) > 1:
        cells = np.full((len(lines), len(columns)), np.nan)
        at = np.searchsorted(lines, points[:, 1].round(6)), np.searchsorted(columns, points[:, 0].round(6))
        cells[at] = scores
        drawn = axes.pcolormesh(_edges(columns), _edges(lines), cells, **colours)
    else:
        has = np.isfinite(scores)
        drawn = axes.scatter(
            points[has, 0],
            points[has, 1],
            c=scores[has],
            s=120,
            marker="s",
            edgecolors="white",
            linewidths=0.5,
            **colours,
        )
    diverged = points[~np.isfinite(scores)]
    axes.scatter(
        diverged[:, 0], diverged[:, 1], marker="x", s=50, color="#CC3311", linewidths=1.6, label="diverged"
    )
    best = points[: min(CIRCLED, int(np.isfinite(scores).sum()))]
    axes.scatter(
        best[:, 0], best[:, 1], marker="o", s=90, facecolors="none", edgecolors="#C44601", linewidths=1.2
    )
    star: dict[str, Any] = {"marker": "*", "s": 170, "color": "#C44601", "edgecolors": "white", "zorder": 4}
    axes.scatter(points[:1, 0], points[:1, 1], **star)
    axes.grid(visible=False)
    return drawn


def _edges(centres: NDArray[np.float64]) -> NDArray[np.float64]:
    between = (centres[1:] + centres[:-1]) / 2
    return np.concatenate([[2 * centres[0] - between[0]], between, [2 * centres[-1] - between[-1]]])


def _draw_products(axes: Axes, x_limits: Point, y_limits: Point) -> None:
    """Lines of equal learning rate x decay, each 16 times the one before."""
    lowest, highest = x_limits[0] + y_limits[0], x_limits[1] + y_limits[1]
    x = np.array(x_limits)
    for level in range(4 * math.ceil(lowest / 4), math.floor(highest) + 1, 4):
        axes.plot(x, level - x, color="#444444", linewidth=0.7, linestyle=":", alpha=0.7, zorder=3)
