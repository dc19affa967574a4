"""How far two histories of one trial are apart, in the columns that two runs of one experiment reproduce."""

from collections.abc import Sequence
from dataclasses import dataclass

from optduel.components.results.history import Row

_PLACE = ("event", "split", "step")
"""What pairs a row of one history with a row of the other."""


@dataclass(frozen=True)
class Deviation:
    """The result of comparing two histories.

    Attributes:
        compared_rows: that both histories have.
        unpaired_rows: that one of them lacks.
        deviating_columns: in which any two paired rows differ.
        largest_deviation: the largest relative one, |a - b| / max(|a|, |b|): 0 where all are equal, None
            where no rows were compared.
        deviates_most_in: its column, None where there is no deviation.
        deviates_most_at: its optimizer step.
    """

    compared_rows: int
    unpaired_rows: int
    deviating_columns: tuple[str, ...]
    largest_deviation: float | None
    deviates_most_in: str | None = None
    deviates_most_at: int | None = None


def deviation(reference: Sequence[Row], other: Sequence[Row]) -> Deviation:
    """Compares two histories row by row; timing is left out."""
    expected = {_place(row): row for row in reference}
    found = {_place(row): row for row in other}
    places = [place for place in expected if place in found]
    unpaired = len(expected) + len(found) - 2 * len(places)
    largest, column, step = 0.0, None, None
    deviating: dict[str, None] = {}
    for place in places:
        values = found[place].reproducible()
        for name, value in expected[place].reproducible().items():
            if values[name] == value:
                continue
            deviating[name] = None
            relative = _relative(float(value), float(values[name]))
            if relative > largest:
                largest, column, step = relative, name, expected[place].step
    return Deviation(len(places), unpaired, tuple(deviating), largest if places else None, column, step)


def _place(row: Row) -> tuple[object, ...]:
    return tuple(getattr(row, name) for name in _PLACE)


def _relative(first: float, second: float) -> float:
    """Two different numbers; the larger one is not 0."""
    return abs(first - second) / max(abs(first), abs(second))
