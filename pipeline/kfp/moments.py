"""When recurring runs may be changed: between two of their times, so that each time has one run."""

import dataclasses
import datetime
import time
from collections.abc import Sequence

from optduel.components.core import ExperimentError, say
from optduel.pipeline.kfp.cron import Cron

AFTER_TICK_SECONDS = 45
"""A run begins up to 40 s after its time, and what is switched before it has begun loses or doubles one."""

BEFORE_TICK_SECONDS = 12
"""So long before the next time all requests of a replacement have to be done."""

_LONGEST_SEARCH = 3600


@dataclasses.dataclass(frozen=True)
class Clock:
    """The time, and how it passes."""

    def now(self) -> datetime.datetime:
        """The time in UTC."""
        return datetime.datetime.now(datetime.UTC)

    def sleep(self, seconds: float) -> None:
        """Lets time pass."""
        time.sleep(seconds)


CLOCK = Clock()


_ANY_TIME = (
    frozenset(range(24)),
    frozenset(range(1, 32)),
    frozenset(range(1, 13)),
    frozenset(range(7)),
)
"""Every hour of every day."""


def quiet_moment(crons: Sequence[Cron], now: datetime.datetime) -> datetime.datetime:
    """The first moment from now on at which no expression has just started a run or is about to.

    Hours and days are not looked at: they are those of the server's time zone.

    Raises:
        ExperimentError: there is none within an hour.
    """
    moment = find_quiet_moment(crons, now)
    if moment is None:
        told = ", ".join(cron.text for cron in crons)
        raise ExperimentError(
            f"cron: {told}: start a run too often for one to be replaced by the other between two runs; "
            "pause the schedule, wait for its run, delete it, and create the new one"
        )
    return moment


def find_quiet_moment(crons: Sequence[Cron], now: datetime.datetime) -> datetime.datetime | None:
    """The same; None where there is none."""
    hourly = [dataclasses.replace(cron, fields=(*cron.fields[:2], *_ANY_TIME)) for cron in crons]
    quiet = datetime.timedelta(seconds=AFTER_TICK_SECONDS + BEFORE_TICK_SECONDS)
    moment = now
    while moment - now < datetime.timedelta(seconds=_LONGEST_SEARCH):
        since = moment - datetime.timedelta(seconds=AFTER_TICK_SECONDS)
        ticks = [tick for cron in hourly if (tick := cron.following(since)) and tick <= since + quiet]
        if not ticks:
            return moment
        moment = max(ticks) + datetime.timedelta(seconds=AFTER_TICK_SECONDS)
    return None


def wait_until(moment: datetime.datetime) -> None:
    """Lets time pass until a moment."""
    seconds = (moment - CLOCK.now()).total_seconds()
    if seconds > 1:
        say(f"schedule: waits {seconds:.0f} s, to change it between two of its times")
    if seconds > 0:
        CLOCK.sleep(seconds)
