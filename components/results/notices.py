"""What a run has to tell somebody: written by the stage that knows it, told when the run has ended."""

from collections.abc import Mapping

from optduel.components.settings import Event, Section, decode
from optduel.components.storage import join, list_entries, publish, read

_FOLDER = "notices"


class Notice(Section):
    """One thing to tell.

    Attributes:
        event: what kind of thing.
        subject: what it is about: the name of a champion, a run or a schedule.
        summary: one sentence for a person.
        details: more, by name: numbers, reasons, places.
    """

    event: Event
    subject: str
    summary: str
    details: Mapping[str, str | int | float | bool | None] = {}


def write_notice(folder: str, notice: Notice) -> None:
    """Leaves a notice in a run's folder, one for each kind of event: a later one replaces an earlier one.

    Args:
        folder: of the run, a path or a URI (`run_folder`).
        notice: what to tell.

    Raises:
        StorageError: it cannot be written.
    """
    publish(join(folder, _FOLDER, f"{notice.event}.json"), notice.canonical_json().encode())


def read_notices(folder: str) -> list[Notice]:
    """The notices in a run's folder, by kind of event.

    Raises:
        StorageError: they cannot be read.
        ExperimentError: one is damaged.
    """
    places = sorted(entry.uri for entry in list_entries(join(folder, _FOLDER)))
    return [decode(Notice, read(place), place) for place in places if place.endswith(".json")]
