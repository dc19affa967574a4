"""Ranges of an arm's numeric fields: where tuning looks for its setting.

To add a kind of range: a class with its abstract members, and its place in `Range`.
"""

import math
from abc import abstractmethod
from typing import Annotated, Literal, Self

import numpy as np
from pydantic import Field, field_validator, model_validator

from optduel.components.settings.section import Section


class BaseRange(Section):
    """What every range answers. A class that lacks an answer cannot be instantiated."""

    @property
    @abstractmethod
    def ends(self) -> tuple[float, float]:
        """The smallest and the largest value."""

    @property
    @abstractmethod
    def width(self) -> float:
        """How much it covers: decades, or of a linear range its length."""

    @property
    @abstractmethod
    def count(self) -> int | None:
        """How many values it has; None where it is continuous."""

    @abstractmethod
    def at(self, place: float) -> float:
        """The value at a place from 0 to 1, evenly in the range's scale."""

    @abstractmethod
    def place(self, value: float) -> float:
        """Where a value lies: 0 at the low end and 1 at the high one, beyond them outside the range."""

    def holds(self, value: float) -> bool:
        """Whether it can be drawn, but for rounding."""
        return -1e-9 <= self.place(value) <= 1 + 1e-9


class _Interval(BaseRange):
    low: float
    high: float

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.low >= self.high:
            raise ValueError(f"low = {self.low:g} must be below high = {self.high:g}")
        return self

    @property
    def ends(self) -> tuple[float, float]:
        """As stated."""
        return self.low, self.high

    @property
    def count(self) -> int | None:
        """Continuous."""
        return None

    @property
    def width(self) -> float:
        """Decades of the scale."""
        return abs(self._scaled(self.high) - self._scaled(self.low))

    def at(self, place: float) -> float:
        """Evenly in the scale; the ends exactly."""
        if place in (0, 1):
            return self.ends[int(place)]
        low, high = self._scaled(self.low), self._scaled(self.high)
        return self._unscaled(low + (high - low) * place)

    def place(self, value: float) -> float:
        """In the scale."""
        low, high = self._scaled(self.low), self._scaled(self.high)
        return (self._scaled(value) - low) / (high - low)

    @abstractmethod
    def _scaled(self, value: float) -> float: ...

    @abstractmethod
    def _unscaled(self, value: float) -> float: ...


class LinearRange(_Interval):
    """Evenly from `low` to `high`."""

    scale: Literal["linear"] = "linear"

    def _scaled(self, value: float) -> float:
        return value

    def _unscaled(self, value: float) -> float:
        return value


class LogRange(_Interval):
    """Evenly in the logarithm: as often between 0.001 and 0.01 as between 0.01 and 0.1."""

    scale: Literal["log"] = "log"

    @field_validator("low")
    @classmethod
    def _positive(cls, low: float) -> float:
        if low <= 0:
            raise ValueError(
                f"{low:g}: a logarithm has no zero; take a positive one, or scale: list with a 0"
            )
        return low

    def _scaled(self, value: float) -> float:
        return math.log10(value) if value > 0 else -math.inf

    def _unscaled(self, value: float) -> float:
        return float(10.0**value)


class OneMinusLogRange(_Interval):
    """Evenly in the logarithm of 1 - value, for momentum and betas: 0.9 to 0.99 as often as 0.99 to 0.999."""

    scale: Literal["one_minus_log"] = "one_minus_log"

    @field_validator("low", "high")
    @classmethod
    def _below_one(cls, end: float) -> float:
        if not 0 <= end < 1:
            raise ValueError(f"{end:g}: must be at least 0 and below 1, of which a logarithm is taken")
        return end

    def _scaled(self, value: float) -> float:
        return -math.log10(1 - value) if value < 1 else math.inf

    def _unscaled(self, value: float) -> float:
        return float(1 - 10.0**-value)


class ListRange(BaseRange):
    """One of `values`, which differ; 0 can be among them."""

    scale: Literal["list"] = "list"
    values: Annotated[tuple[float, ...], Field(min_length=2, max_length=1000)]

    @field_validator("values")
    @classmethod
    def _increasing(cls, values: tuple[float, ...]) -> tuple[float, ...]:
        if list(values) != sorted(set(values)):
            raise ValueError("must increase from one value to the next")
        return values

    @property
    def ends(self) -> tuple[float, float]:
        """First and last."""
        return self.values[0], self.values[-1]

    @property
    def count(self) -> int | None:
        """As many as are listed."""
        return len(self.values)

    @property
    def width(self) -> float:
        """Decades of the positive ones."""
        positive = [value for value in self.values if value > 0]
        return math.log10(positive[-1] / positive[0]) if len(positive) > 1 else 0.0

    def at(self, place: float) -> float:
        """Each value for an equal part of the places."""
        return self.values[min(int(place * len(self.values)), len(self.values) - 1)]

    def place(self, value: float) -> float:
        """By position; between two of them for what is not listed."""
        return float(np.interp(value, self.values, np.linspace(0, 1, len(self.values)), left=-1, right=2))

    def holds(self, value: float) -> bool:
        """Whether it is listed."""
        return value in self.values


Range = Annotated[LinearRange | LogRange | OneMinusLogRange | ListRange, Field(discriminator="scale")]

Search = dict[str, Range]
"""Ranges by the path of the field, such as "l2" or "learning_rate.base"."""
