"""Whether learning rate and decay can be chosen apart: how the best decay moves with the rate.

Near its optimum the logarithm of the validation loss is fitted by a quadratic form in x = log2(learning
rate) and y = log2(decay). Its valley is where the derivative by y vanishes, and has the slope dy/dx = -H_xy
/ H_yy: 0 where the best decay is the same for every rate, -1 where only the product of both counts. A change
of coordinates from y to y + x adds exactly 1, so the number does not depend on the units that the grid was
made in.
"""

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from optduel.components.results import Coupling, TunedSetting
from optduel.components.settings import Arm, decay_coefficient

FEWEST = 10
"""Settings that a fit of six coefficients needs at least."""

CERTAIN = 2.0
"""Standard errors that a number has to be away from another to be told from it."""


def rate_of(arm: Arm, values: Mapping[str, float]) -> float:
    """The base learning rate of a setting."""
    return values.get("learning_rate.base", arm.learning_rate.base)


def coupling(arm: Arm, settings: Sequence[TunedSetting]) -> Coupling | None:
    """The slope of an arm's valley in the paper's units; None where the settings do not say.

    Args:
        settings: of the arm.
    """
    points = []
    for one in settings:
        loss, rate = one.median("cross_entropy"), rate_of(arm, one.values)
        decay = decay_coefficient(arm, one.values)
        if loss and decay > 0:
            # The paper's lambda of a decoupled arm holds the rate.
            scaled = decay if arm.decay_field == "l2" else decay * rate
            points.append((math.log2(rate), math.log2(scaled), math.log(loss)))
    return valley(np.array(points, dtype=np.float64).reshape(-1, 3))


def valley(points: NDArray[np.float64]) -> Coupling | None:
    """The slope of the valley of a surface, from its better half.

    Args:
        points: x, y and the height, float64 [n, 3].

    Returns:
        None with fewer than `FEWEST` points in the better half, where x or y has one value only, or where the
        height does not curve upwards in y beyond `CERTAIN` standard errors: there is no best y then.
    """
    better = points[points[:, 2] <= np.median(points[:, 2])] if len(points) else points
    if len(better) < FEWEST or np.ptp(better[:, 0]) == 0 or np.ptp(better[:, 1]) == 0:
        return None
    whole = _form(better)
    if whole is None:
        return None
    left_out = [_form(np.delete(better, index, axis=0)) for index in range(len(better))]
    forms = np.array([form for form in left_out if form is not None])
    if len(forms) < len(better):
        return None
    if whole[1] <= CERTAIN * _jackknife(forms[:, 1]):
        return None
    slopes = -forms[:, 0] / forms[:, 1]
    return Coupling(slope=float(-whole[0] / whole[1]), error=float(_jackknife(slopes)), settings=len(better))


def _form(points: NDArray[np.float64]) -> tuple[float, float] | None:
    """H_xy and H_yy of the quadratic form that fits best."""
    x, y, height = points.T
    x, y = x - x.mean(), y - y.mean()
    design = np.column_stack([np.ones_like(x), x, y, x * x, x * y, y * y])
    if np.linalg.matrix_rank(design) < design.shape[1]:
        return None
    found = np.linalg.lstsq(design, height, rcond=None)[0]
    return float(found[4]), float(2 * found[5])


def _jackknife(values: NDArray[np.float64]) -> float:
    count = len(values)
    return float(np.sqrt((count - 1) / count * np.sum((values - values.mean()) ** 2)))


def claims(arms: Sequence[Arm], settings: Mapping[str, Sequence[TunedSetting]]) -> list[str]:
    """The claims of figure 2 of arXiv 1711.05101, each seen, not seen or not told, with its number.

    Args:
        settings: of each arm; one that does not search rate and decay is left out.
    """
    found = []
    for arm in arms:
        if not {arm.decay_field, "learning_rate.base"} <= {*arm.search}:
            continue
        is_coupled = arm.decay_field == "l2"
        kind, lie = ("L2", "lie") if is_coupled else ("decoupled decay", "do not lie")
        claim = f"the good settings of {kind} {lie} on a diagonal of rate and decay"
        slope = coupling(arm, settings[arm.name])
        if slope is None:
            found.append(f"{arm.name}: not told: {claim}. No decay stands out as the best.")
            continue
        to_none, to_one = (abs(slope.slope - target) / max(slope.error, 1e-12) for target in (0, -1))
        if is_coupled:
            is_seen = to_none > CERTAIN and slope.slope < -0.5
        else:
            is_seen = to_one > CERTAIN and slope.slope > -0.5
        found.append(
            f"{arm.name}: {'seen' if is_seen else 'not seen'}: {claim}. Slope {slope.slope:.2f} ± "
            f"{slope.error:.2f} (0: chosen apart, -1: a diagonal)."
        )
    return found + [line for arm in arms for line in _no_l2_for_adam(arm, settings[arm.name])]


def _no_l2_for_adam(arm: Arm, settings: Sequence[TunedSetting]) -> list[str]:
    if arm.optimizer != "adam" or arm.decay_field not in arm.search:
        return []
    losses: dict[float, float] = {}
    for one in settings:
        loss, decay = one.median("cross_entropy"), decay_coefficient(arm, one.values)
        if loss is not None:
            losses[decay] = min(loss, losses.get(decay, math.inf))
    if len(losses) < 2 or len(losses) > len(settings) // 2:
        return []  # not a grid: no rate was tried with several decays
    weakest = min(losses)
    best = min(losses, key=losses.__getitem__)
    gain = 1 - losses[best] / losses[weakest]
    is_seen = gain < 0.05
    return [
        f"{arm.name}: {'seen' if is_seen else 'not seen'}: the best L2 for Adam is about none. The best "
        f"L2, {best / 2:.2g}, lowers the validation loss by {100 * gain:.1f} % against {weakest / 2:.2g}, "
        "the weakest."
    ]
