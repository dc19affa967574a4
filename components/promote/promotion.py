"""The promote stage's one call, and the changes that a person makes."""

import hashlib
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal

from optduel.components.champions import (
    Candidate,
    Champion,
    Held,
    champion_file,
    change,
    complete_history,
    current,
    history,
    model_folder,
    refuse_pinned,
)
from optduel.components.core import ConflictError, DataError, ExperimentError, say
from optduel.components.promote.registry import register
from optduel.components.results import LINEAGE_NAME, now, run_folder
from optduel.components.settings import Registry
from optduel.components.storage import (
    Download,
    Upload,
    as_storage_error,
    download,
    join,
    list_entries,
    publish,
    read,
    stat,
    upload,
)

MODEL_NAME = "model.keras"
"""Of a champion's model in Keras' format, in its folder."""

HandOver = Callable[[Candidate, Path, Path], None]
"""Makes, of a candidate and its model file, what else belongs to a champion, in a local folder."""


def promote(
    root: str,
    name: str,
    candidate: Candidate,
    number: int | None,
    action: Literal["promoted", "overridden"],
    by: str,
    reason: str,
    hand_over: HandOver,
    registry: Registry | None = None,
) -> Champion:
    """Makes a candidate the champion. Where it is already, what a killed attempt has left undone is done.

    First everything is copied into the champion's folder, last the pointer moves: whoever is killed leaves
    the old champion or the new one, whole.

    Args:
        root: of datasets, runs and champions.
        name: the champion's.
        number: of the change that the candidate was judged against; None for no champion.
        by: who or what makes the change.
        reason: why.
        hand_over: makes what lies beside the model.
        registry: that gets the champion, too.

    Raises:
        ConflictError: the champion is another one than the candidate was judged against.
        ExperimentError: the champion is pinned.
        DataError: the candidate's model is not the one that was measured.
        StorageError: a place cannot be read or written.
    """
    held = current(root, name)
    if held and _is_of(held.champion, candidate):
        complete_history(root, held.champion)
        register(held.champion)
        return held.champion
    refuse_pinned(root, held)
    if (held.champion.number if held else None) != number:
        raise ConflictError(
            f"{champion_file(root, name)}: {_state(held)}, but run {candidate.run} was judged against "
            f"{'no champion' if number is None else f'change {number}'}; run it again"
        )
    place = _copy(root, name, candidate, hand_over)
    champion = Champion(
        name=name,
        number=(number or 0) + 1,
        action=action,
        time=now(),
        by=by,
        reason=reason,
        candidate=candidate.model_copy(update={"model": place}),
        predecessor=number,
        registry=registry,
    )
    change(root, held, champion)
    register(champion)
    say(f"promote: run {candidate.run} made {name} its champion, change {champion.number}: {place}")
    return champion


def roll_back(root: str, name: str, to: int | None, by: str, reason: str) -> Champion:
    """Makes an earlier model the champion again.

    Args:
        to: number of a change whose model it shall be; the champion's predecessor when None.

    Raises:
        ExperimentError: there is no such change, or the champion is pinned.
        DataError: the model is gone, or is no longer the one that was promoted.
        ConflictError: another writer was first.
    """
    held = _held(root, name)
    refuse_pinned(root, held)
    champion = held.champion
    number = champion.predecessor if to is None else to
    known = {one.number: one for one in history(root, name)}
    if number not in known:
        raise ExperimentError(
            f"{champion_file(root, name)}: has no {'predecessor' if to is None else f'change {to}'} to go "
            f"back to; there are {', '.join(map(str, known))}: optduel champion history {name}"
        )
    target = known[number]
    check_model(target.candidate)
    return _changed(
        root,
        held,
        action="rolled back",
        by=by,
        reason=reason,
        candidate=target.candidate,
        predecessor=target.predecessor,
    )


def pin(root: str, name: str, is_pinned: bool, by: str, reason: str) -> Champion:
    """Keeps the champion until it is released, or releases it.

    Raises:
        ExperimentError: there is no champion, or it is in that state already.
        ConflictError: another writer was first.
    """
    held = _held(root, name)
    if held.champion.pinned == is_pinned:
        state = "pinned" if is_pinned else "not pinned"
        raise ExperimentError(f"{champion_file(root, name)}: is {state} already; nothing to do")
    return _changed(
        root, held, action="pinned" if is_pinned else "released", by=by, reason=reason, pinned=is_pinned
    )


def check_model(candidate: Candidate) -> None:
    """Reads a model and compares it with what is known of it.

    Raises:
        DataError: it is gone or was changed.
        StorageError: it cannot be read.
    """
    if stat(candidate.model) is None:
        raise DataError(f"{candidate.model}: is gone; restore it, or take another change")
    _with_model(candidate, lambda _: None)


def _held(root: str, name: str) -> Held:
    held = current(root, name)
    if held is None:
        raise ExperimentError(
            f"{champion_file(root, name)}: there is no champion yet; a retraining run makes one, or "
            "optduel champion promote"
        )
    return held


def _changed(root: str, held: Held, **fields: object) -> Champion:
    update: Mapping[str, object] = {"number": held.champion.number + 1, "time": now(), **fields}
    champion = Champion.model_validate({**dict(held.champion), **update})
    change(root, held, champion)
    register(champion)
    return champion


def _is_of(champion: Champion, candidate: Candidate) -> bool:
    return (champion.candidate.run, champion.candidate.model_sha256) == (
        candidate.run,
        candidate.model_sha256,
    )


def _state(held: Held | None) -> str:
    if held is None:
        return "there is no champion"
    champion = held.champion
    return f"the champion stands at change {champion.number} ({champion.action} by {champion.by})"


def _copy(root: str, name: str, candidate: Candidate, hand_over: HandOver) -> str:
    """Copies a candidate's model and what belongs to it; returns where the model is then."""
    folder = model_folder(root, name, candidate.model_sha256)
    place = join(folder, MODEL_NAME)

    def bring(model: Path) -> None:
        made = model.parent / "made"
        made.mkdir()
        hand_over(candidate, model, made)
        origin = join(run_folder(root, candidate.run), LINEAGE_NAME)
        if stat(origin):
            publish(join(folder, LINEAGE_NAME), read(origin))
        files = [Path(entry.uri) for entry in list_entries(made)]
        upload([Upload(file, join(folder, str(file.relative_to(made)))) for file in files])
        upload([Upload(model, place)])

    _with_model(candidate, bring)
    return place


def _with_model(candidate: Candidate, work: Callable[[Path], None]) -> None:
    """Does something with a local copy of the model, which is the one that was measured."""
    try:
        with tempfile.TemporaryDirectory(prefix="optduel-") as scratch:
            model = Path(scratch) / MODEL_NAME
            download([Download(candidate.model, model)])
            with model.open("rb") as file:
                found = hashlib.file_digest(file, "sha256").hexdigest()
            if found != candidate.model_sha256:
                raise DataError(
                    f"{candidate.model}: SHA-256 {found}, measured was {candidate.model_sha256}: was "
                    "changed; restore it, or take another run"
                )
            work(model)
    except OSError as error:
        raise as_storage_error(error, Path(tempfile.gettempdir())) from error
