"""Checks the cron expressions that Kubeflow Pipelines takes, and tells when they start runs.

KFP parses them with robfig/cron 1.2: six fields, seconds first. That accepts five as well and takes the first
for seconds, so that a crontab's line would run at quite another time; here five are refused.
"""

import datetime
from dataclasses import dataclass
from typing import NoReturn

from optduel.components.core import ExperimentError

_NAMES = ("second", "minute", "hour", "day of month", "month", "day of week")
_LIMITS = ((0, 59), (0, 59), (0, 23), (1, 31), (1, 12), (0, 6))
_WORDS: tuple[tuple[str, ...], ...] = (
    (),
    (),
    (),
    (),
    ("", "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"),
    ("sun", "mon", "tue", "wed", "thu", "fri", "sat"),
)
_DESCRIPTORS = {
    "@yearly": "0 0 0 1 1 *",
    "@annually": "0 0 0 1 1 *",
    "@monthly": "0 0 0 1 * *",
    "@weekly": "0 0 0 * * 0",
    "@daily": "0 0 0 * * *",
    "@midnight": "0 0 0 * * *",
    "@hourly": "0 0 * * * *",
}
_YEARS = 5
"""The scheduler looks no further ahead."""


@dataclass(frozen=True)
class Cron:
    """A checked expression.

    Attributes:
        text: the expression.
        fields: the allowed values of second, minute, hour, day of month, month and day of week (0 is Sunday).
        any_day: day of month or day of week is left open, so that a day has to match both; otherwise either.
    """

    text: str
    fields: tuple[frozenset[int], ...]
    any_day: bool

    def following(self, moment: datetime.datetime) -> datetime.datetime | None:
        """The first time after `moment`, or None where five years have none."""
        seconds, minutes, hours, _, _, _ = self.fields
        start = moment.replace(microsecond=0) + datetime.timedelta(seconds=1)
        day = start.date()
        while day.year <= start.year + _YEARS:
            if self._matches(day):
                times = (
                    datetime.datetime.combine(day, datetime.time(hour, minute, second), start.tzinfo)
                    for hour in sorted(hours)
                    for minute in sorted(minutes)
                    for second in sorted(seconds)
                )
                found = next((time for time in times if time >= start), None)
                if found is not None:
                    return found
            day += datetime.timedelta(days=1)
        return None

    def next_times(self, moment: datetime.datetime, count: int) -> list[datetime.datetime]:
        """The first `count` times after `moment`."""
        found: list[datetime.datetime] = []
        while len(found) < count and (time := self.following(found[-1] if found else moment)):
            found.append(time)
        return found

    def _matches(self, day: datetime.date) -> bool:
        _, _, _, days, months, weekdays = self.fields
        if day.month not in months:
            return False
        in_month, in_week = day.day in days, day.isoweekday() % 7 in weekdays
        return in_month and in_week if self.any_day else in_month or in_week


def parse_cron(text: str) -> Cron:
    """Checks an expression.

    Args:
        text: six fields, or a word such as @daily.

    Raises:
        ExperimentError: it is none, or no day ever matches it.
    """
    words = _DESCRIPTORS.get(text, text).split()
    if text.startswith("@") and text not in _DESCRIPTORS:
        raise ExperimentError(f"--cron = {text!r}: must be six fields or one of {', '.join(_DESCRIPTORS)}")
    if len(words) == 5:
        raise ExperimentError(
            f"--cron = {text!r}: has five fields, but Kubeflow Pipelines wants six, seconds first; "
            f"write {' '.join(['0', *words])!r}"
        )
    if len(words) != 6:
        raise ExperimentError(
            f"--cron = {text!r}: has {len(words)} fields, must have six: {', '.join(_NAMES)}; "
            "for example '0 0 6 * * 1' for Mondays at six"
        )
    fields = tuple(_field(text, place, word) for place, word in enumerate(words))
    is_open = any(part.startswith(("*", "?")) for word in (words[3], words[5]) for part in word.split(","))
    cron = Cron(text, fields, is_open)
    if cron.following(datetime.datetime.now(datetime.UTC)) is None:
        raise ExperimentError(f"--cron = {text!r}: no day of the next {_YEARS} years matches")
    return cron


def _field(text: str, place: int, word: str) -> frozenset[int]:
    return frozenset(value for part in word.split(",") for value in _part(text, place, part))


def _part(text: str, place: int, part: str) -> range:
    """The values of `*`, `?`, `5`, `1-5` or one of them with `/step`; `5/10` begins at 5."""
    low, high = _LIMITS[place]
    span, slash, step = part.partition("/")
    first, dash, last = span.partition("-")
    if first in ("*", "?") and not dash:
        start, end = low, high
    else:
        start = _value(text, place, part, first)
        end = _value(text, place, part, last) if dash else high if slash else start
    if not (low <= start <= end <= high):
        _refuse(text, place, part)
    if slash and not (step.isdecimal() and step.isascii() and int(step) > 0):
        _refuse(text, place, part)
    return range(start, end + 1, int(step) if slash else 1)


def _value(text: str, place: int, part: str, word: str) -> int:
    if word and word.lower() in _WORDS[place]:
        return _WORDS[place].index(word.lower())
    if not (word.isdecimal() and word.isascii()):
        _refuse(text, place, part)
    return int(word)


def _refuse(text: str, place: int, part: str) -> NoReturn:
    low, high = _LIMITS[place]
    names = " or names such as " + _WORDS[place][1] if _WORDS[place] else ""
    raise ExperimentError(
        f"--cron = {text!r}: {_NAMES[place]} = {part!r}: must be *, numbers from {low} to {high}{names}, "
        "ranges a-b, lists a,b, or steps */n"
    )
