"""Changes a champion: one object moves by compare-and-swap, and every state that it had is kept.

`champion.json` alone says who the champion is. A change replaces it whole, if it still is what the writer has
read. Its content is kept under `history/`, too: before it is replaced, and right after it was written. Who
is killed in between leaves the old champion or the new one, and at most a history whose newest entry stands
in `champion.json` only, where readers find it and the next writer completes it.
"""

from typing import NamedTuple

from optduel.components.champions.champion import Champion, champion_file, champion_folder, history_file
from optduel.components.core import ConflictError, DamagedError, DataError, ExperimentError
from optduel.components.settings import decode
from optduel.components.storage import join, list_entries, publish, read, stat


class Held(NamedTuple):
    """A champion as it was read, and the version of its object, for the swap."""

    champion: Champion
    version: str


def current(root: str, name: str) -> Held | None:
    """The champion of a name, or None where there is none yet.

    Args:
        root: of datasets, runs and champions, a path or a URI.

    Raises:
        StorageError: the place cannot be reached.
        DataError: what stands there is no champion of this name.
    """
    place = champion_file(root, name)
    entry = stat(place)
    # Whatever is written between the two makes the version an old one, with which no swap succeeds.
    return Held(_decoded(read(place), place, name), entry.version) if entry else None


def change(root: str, held: Held | None, new: Champion) -> None:
    """Makes `new` the champion, if `held` still is: of several writers at a time one wins.

    Again with the same `new`, after a writer was killed, it completes what is missing.

    Args:
        held: as `current` returned it before `new` was made.
        new: with the number that follows.

    Raises:
        ConflictError: another writer was first; says which one.
        StorageError: the place cannot be written.
    """
    place, content = champion_file(root, new.name), new.canonical_json().encode()
    if held is not None:
        complete_history(root, held.champion)
    try:
        publish(place, content, if_absent=held is None, if_version=held.version if held else None)
    except ConflictError:
        found = current(root, new.name)
        if found is None or found.champion != new:
            raise ConflictError(f"{place}: {_told(found)}; look at it, and decide again") from None
    complete_history(root, new)


def _told(found: Held | None) -> str:
    if found is None:
        return "was removed by another writer meanwhile"
    champion = found.champion
    return (
        f"was changed meanwhile: change {champion.number}, {champion.action} by {champion.by}, made "
        f"the model of run {champion.candidate.run} the champion"
    )


def complete_history(root: str, champion: Champion) -> None:
    """Keeps a change under `history/`; what is there already stays.

    Raises:
        DamagedError: something else is there.
        StorageError: the place cannot be written.
    """
    place, content = history_file(root, champion.name, champion.number), champion.canonical_json().encode()
    try:
        publish(place, content, if_absent=True)
    except ConflictError:
        if read(place) != content:
            raise DamagedError(
                f"{place}: holds another change {champion.number} than champion.json; history is only ever "
                "added to: find out who changed one of them, and move the wrong one away"
            ) from None


def history(root: str, name: str) -> list[Champion]:
    """All changes of a champion, oldest first; none where there is no champion.

    Raises:
        StorageError: the place cannot be read.
        DataError: an entry is no champion.
    """
    held = current(root, name)
    entries = list_entries(join(champion_folder(root, name), "history"))
    changes = {one.number: one for one in (_decoded(read(entry.uri), entry.uri, name) for entry in entries)}
    if held is not None:
        changes.setdefault(held.champion.number, held.champion)
    return [changes[number] for number in sorted(changes)]


def refuse_pinned(root: str, held: Held | None) -> None:
    """Raises ExperimentError where the champion is pinned."""
    if held is not None and held.champion.pinned:
        champion = held.champion
        raise ExperimentError(
            f"{champion_file(root, champion.name)}: is pinned by {champion.by} ({champion.reason}); release "
            f"it first: optduel champion pin {champion.name} --release"
        )


def _decoded(content: bytes, place: str, name: str) -> Champion:
    try:
        champion = decode(Champion, content, place)
    except ExperimentError as error:
        raise DataError(f"{place}: is no champion; restore it from history/ beside it: {error}") from error
    if champion.name != name:
        raise DataError(f"{place}: name = {champion.name}: is another champion's; move it to its place")
    return champion
