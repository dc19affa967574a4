"""What a champion is, and where it and all that belongs to it lie."""

from typing import Annotated, Literal

from pydantic import Field

from optduel.components.records import Originals
from optduel.components.results import Interval
from optduel.components.settings import Arm, Registry, Section
from optduel.components.storage import join

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Said = Annotated[str, Field(min_length=1, max_length=1000)]


class Candidate(Section):
    """A trained model that may become the champion, and where it comes from.

    Attributes:
        run: that trained it; unique below the root.
        experiment: the experiment's name.
        fingerprint: of the experiment.
        data_fingerprint: of the records.
        arm: with the settings that it was trained with.
        model: URI or path of the model file, in Keras' format.
        classes: names, in the order of the model's outputs.
        image_shape: height, width, channels that the model takes.
        images: records of each split that it was trained, selected and measured on.
        copies: images of these that are exact copies of one another; None where it is not known.
        originals: what the images were before they became records.
        examples: that the metrics are taken on.
        calibration_error: expected calibration error.
    """

    run: str
    experiment: str
    fingerprint: Sha256
    data_fingerprint: Sha256
    code_version: str
    arm: Arm
    seed: int
    model: str
    model_sha256: Sha256
    classes: Annotated[tuple[str, ...], Field(min_length=1)]
    image_shape: tuple[int, int, int]
    images: dict[str, int]
    copies: int | None = None
    originals: Originals = Originals()
    examples: int
    accuracy: Interval
    cross_entropy: Interval
    macro_f1: float
    calibration_error: float


class Champion(Section):
    """The model in use, and the change that made it that.

    Attributes:
        number: of the change; each is one more than the one before it.
        action: what the change was. A pinned champion stays until it is released.
        time: in UTC, ISO 8601.
        by: who or what made the change: a person, or a run.
        reason: why.
        candidate: the model; its place is within the champion's folder.
        predecessor: number of the change that made the model before this one the champion; of none at first.
        pinned: whether it stays until a person releases it.
        registry: that has it under the alias `champion`, too.
    """

    schema_version: Literal[1] = 1
    name: str
    number: Annotated[int, Field(ge=1)]
    action: Literal["promoted", "overridden", "rolled back", "pinned", "released"]
    time: str
    by: Said
    reason: Said
    candidate: Candidate
    predecessor: int | None = None
    pinned: bool = False
    registry: Registry | None = None


def champion_folder(root: str, name: str) -> str:
    """Where all of one champion lies, a path or a URI."""
    return join(root, "champions", name)


def champion_file(root: str, name: str) -> str:
    """The one object that moves."""
    return join(champion_folder(root, name), "champion.json")


def history_file(root: str, name: str, number: int) -> str:
    """Where a change is kept for good."""
    return join(champion_folder(root, name), "history", f"{number:08d}.json")


def model_folder(root: str, name: str, sha256: str) -> str:
    """Where a model of this champion lies, with all that belongs to it."""
    return join(champion_folder(root, name), "models", sha256)
