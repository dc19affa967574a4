"""Why a tuning may favour an arm: spaces that differ in size or strength of decay, or that miss a value."""

import itertools
import math
from collections.abc import Sequence

from optduel.components.settings.arms import Arm
from optduel.components.settings.decay import strength

WIDER_FACTOR = 1.5
"""Ranges that differ more than this in decades are told: the same number of trials fills the wider one
less."""


def search_cautions(arms: Sequence[Arm], epoch_steps: int, epochs: int) -> list[str]:
    """One sentence for each; none where the spaces are alike.

    Args:
        arms: those that are searched, two or more.
        epoch_steps: steps per epoch, counted or nominal.
    """
    return [*_sizes(arms), *_widths(arms), *_decays(arms, epoch_steps, epochs), *_left_out(arms)]


def _sizes(arms: Sequence[Arm]) -> list[str]:
    sizes = {arm.name: len(arm.search) for arm in arms}
    if len(set(sizes.values())) == 1:
        return []
    counted = ", ".join(f"{name} {size}" for name, size in sizes.items())
    return [
        f"arms.*.search: the arms search different numbers of fields ({counted}); the same number of trials "
        "covers the smaller space better."
    ]


def _widths(arms: Sequence[Arm]) -> list[str]:
    found = []
    for title, paths in (
        ("the learning rate", {arm.name: "learning_rate.base" for arm in arms}),
        ("decay", {arm.name: arm.decay_field for arm in arms}),
    ):
        widths = {
            arm.name: arm.search[paths[arm.name]].width
            for arm in arms
            if paths[arm.name] in arm.search and arm.search[paths[arm.name]].ends[0] >= 0
        }
        if len(widths) < 2 or min(widths.values()) <= 0:
            continue
        narrow, wide = min(widths, key=widths.__getitem__), max(widths, key=widths.__getitem__)
        if widths[wide] > WIDER_FACTOR * widths[narrow]:
            found.append(
                f"arms.*.search: for {title} {wide} searches {widths[wide]:.2g} decades and {narrow} "
                f"{widths[narrow]:.2g}; the same number of trials covers the narrower range better."
            )
    return found


def _decays(arms: Sequence[Arm], epoch_steps: int, epochs: int) -> list[str]:
    """Compared in the common unit: what decay shrinks over the run."""
    spans = {arm.name: span for arm in arms if (span := _strengths(arm, epoch_steps, epochs))}
    found = []
    for one, other in itertools.combinations(spans, 2):
        (low, high), (other_low, other_high) = spans[one], spans[other]
        if high < other_low or other_high < low:
            found.append(
                f"arms.*.search: {one} and {other} search strengths of decay that do not overlap. Over the "
                f"run {one} shrinks a weight by {_shrink(low)} to {_shrink(high)} %, {other} by "
                f"{_shrink(other_low)} to {_shrink(other_high)} %."
            )
    return found


def _strengths(arm: Arm, epoch_steps: int, epochs: int) -> tuple[float, float] | None:
    """Weakest and strongest decay of the space; None where none is searched, or none is comparable."""
    paths = [path for path in (arm.decay_field, "learning_rate.base", "momentum") if path in arm.search]
    if arm.decay_field not in paths:
        return None
    corners = itertools.product(*(arm.search[path].ends for path in paths))
    settings = [arm.with_setting(dict(zip(paths, corner, strict=True))) for corner in corners]
    strengths = [strength(setting, epoch_steps, epochs) for setting in settings]
    known = [value for value in strengths if value is not None]
    # Under Adam, L2 has no equivalent but where it is zero.
    return (min(known), max(known)) if len(known) == len(strengths) else None


def _shrink(strength: float) -> str:
    return f"{100 * -math.expm1(-strength):.2g}"


def _left_out(arms: Sequence[Arm]) -> list[str]:
    return [
        f"arms.{arm.name}.search.{path}: leaves out {arm.numbers[path]:g}, the value that was typed in."
        for arm in arms
        for path, range_ in sorted(arm.search.items())
        if not range_.holds(arm.numbers[path]) and not _is_default(arm, path)
    ]


def _is_default(arm: Arm, path: str) -> bool:
    *section, name = path.split(".")
    where = getattr(arm, section[0]) if section else arm
    default: object = type(where).model_fields[name].default
    return default == arm.numbers[path]
