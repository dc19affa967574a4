"""What the gate found, and what every retraining run came to."""

from typing import Literal, TypeVar

from optduel.components.champions.champion import Candidate, Said, champion_folder
from optduel.components.core import DataError, ExperimentError
from optduel.components.results import Interval, RunCost, run_folder
from optduel.components.settings import Section, decode
from optduel.components.storage import join, list_entries, publish, read


class Criterion(Section):
    """One thing that the gate asks for.

    Attributes:
        name: of the criterion, such as "accuracy" or "class rose".
        passed: whether it is met.
        measured: what was measured; an interval where there is one.
        limit: what it is held against; None where a test alone decides.
        p_value: of the test, where there is one.
        sentence: the finding with its numbers, for people.
    """

    name: str
    passed: bool
    measured: Interval | float
    limit: float | None = None
    p_value: float | None = None
    sentence: str


class Standing(Section):
    """A model on the images that both models are judged by.

    Attributes:
        model_sha256: of the model file.
        run: that trained it.
    """

    model_sha256: str
    run: str
    accuracy: Interval
    cross_entropy: float
    macro_f1: float


class Judgement(Section):
    """The gate's finding, `gate.json` in the folder of a run.

    Attributes:
        champion: the champion's name.
        number: of the change that the judged champion stood at; None where there was none.
        passed: whether all criteria are met.
        reason: in a sentence: what decided.
        candidate: the model that asks to become the champion.
        standings: candidate and champion on the same images; empty without a champion.
        test_images: of today's test split.
        seen_images: of these, that the champion was trained on; nobody is judged by them.
        judged_images: that both models were judged by.
        new_classes: that the champion does not know.
        gone_classes: that the champion knows and today's images do not have.
    """

    schema_version: Literal[1] = 1
    champion: str
    run: str
    time: str
    number: int | None
    passed: bool
    reason: Said
    candidate: Candidate
    standings: tuple[Standing, ...] = ()
    criteria: tuple[Criterion, ...]
    test_images: int
    seen_images: int = 0
    judged_images: int
    new_classes: tuple[str, ...] = ()
    gone_classes: tuple[str, ...] = ()


class ClassChange(Section):
    """One class in the champion's images and in today's.

    Attributes:
        before: images of the champion's data; 0 for a new class.
        after: images of today's; 0 for one that is gone.
        added: images of this class that the champion's data did not have in any class.
        removed: images of this class that today's data does not have in any class.
        relabelled: images that have come to this class from another one.
    """

    name: str
    before: int
    after: int
    added: int
    removed: int
    relabelled: int


class RetrainingDecision(Section):
    """What a run for a champion has to do, and why: `decision.json` in the folder of the run.

    Attributes:
        number: of the change that the champion stood at; None where there was none.
        trains: whether a candidate is trained.
        reason: in a sentence.
        images: of the whole data set.
        classes: how each has changed; empty where there is no champion.
        drift_p_value: of the test that the added images have the champion's class shares; None where none
            was added.
    """

    schema_version: Literal[1] = 1
    champion: str
    run: str
    time: str
    number: int | None
    trains: bool
    reason: Said
    experiment: str
    fingerprint: str
    data_fingerprint: str
    code_version: str
    images: int
    classes: tuple[ClassChange, ...] = ()
    drift_p_value: float | None = None

    def count(self, kind: Literal["added", "removed", "relabelled"]) -> int:
        """How many images over all classes were added, removed or relabelled."""
        return sum(getattr(change, kind) for change in self.classes)


class RetrainingRun(Section):
    """What a run for a champion came to; one for every run, in the champion's folder.

    Attributes:
        outcome: "late" and "shrunk" are refusals of the data: such a run fails.
        reason: in a sentence.
        judgement: of the gate, where it was asked.
        cost: of the tasks that had ended.
    """

    schema_version: Literal[1] = 1
    outcome: Literal["promoted", "refused", "skipped", "late", "shrunk"]
    reason: Said
    decision: RetrainingDecision
    judgement: Judgement | None = None
    cost: RunCost | None = None


def gate_file(root: str, run: str) -> str:
    """Where the gate's finding of a run is."""
    return join(run_folder(root, run), "gate.json")


def read_judgement(root: str, run: str) -> Judgement:
    """The gate's finding of a run.

    Raises:
        StorageError: it cannot be read, for example because the run never asked the gate.
        DataError: it is no such document.
    """
    return _document(Judgement, gate_file(root, run))


def write_judgement(root: str, judgement: Judgement) -> None:
    """Keeps the gate's finding in the folder of its run. Raises StorageError."""
    publish(gate_file(root, judgement.run), judgement.canonical_json().encode())


def decision_file(root: str, run: str) -> str:
    """Where the decision of a run is."""
    return join(run_folder(root, run), "decision.json")


def write_decision(root: str, decision: RetrainingDecision) -> None:
    """Keeps a decision in the folder of its run. Raises StorageError."""
    publish(decision_file(root, decision.run), decision.canonical_json().encode())


def read_decision(root: str, run: str) -> RetrainingDecision:
    """The decision of a run. Raises as `read_judgement` does."""
    return _document(RetrainingDecision, decision_file(root, run))


def retraining_run_file(root: str, name: str, run: str) -> str:
    """Where is kept what a run for a champion came to."""
    return join(champion_folder(root, name), "runs", f"{run}.json")


def write_retraining_run(root: str, run: RetrainingRun) -> None:
    """Keeps what a run came to; the same run, tried again, replaces itself.

    Raises:
        StorageError: the place cannot be written.
    """
    decision = run.decision
    publish(retraining_run_file(root, decision.champion, decision.run), run.canonical_json().encode())


def read_retraining_run(root: str, name: str, run: str) -> RetrainingRun:
    """What one run came to. Raises as `read_judgement` does."""
    return _document(RetrainingRun, retraining_run_file(root, name, run))


def retraining_runs(root: str, name: str) -> list[RetrainingRun]:
    """All runs for a champion, by time.

    Raises:
        StorageError: the place cannot be read.
        DataError: a document is none.
    """
    entries = list_entries(join(champion_folder(root, name), "runs"))
    runs = [_document(RetrainingRun, entry.uri) for entry in entries if entry.uri.endswith(".json")]
    return sorted(runs, key=lambda run: (run.decision.time, run.decision.run))


_Document = TypeVar("_Document", RetrainingDecision, Judgement, RetrainingRun)


def _document(kind: type[_Document], place: str) -> _Document:
    try:
        return decode(kind, read(place), place)
    except ExperimentError as error:
        raise DataError(f"{place}: is no {kind.__name__}; run the retraining again: {error}") from error
