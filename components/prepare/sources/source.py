"""What every source of images offers: class names and random access to encoded images with their labels."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from optduel.components.records import Skipped
from optduel.components.storage import as_storage_error


@dataclass(frozen=True, slots=True)
class Example:
    """One image of a source.

    Attributes:
        id: its name relative to the source, for messages.
        label: index of its class in the source's `classes`.
        split: that the source itself declares, one of SPLITS; None where it declares none.
        group: images of one group (a patient, a video, a product) never lie in two splits.
        is_named_file: `id` is a file name whose ending promises a format.
    """

    id: str
    label: int
    split: str | None = None
    group: str | None = None
    is_named_file: bool = False


class Source(Protocol):
    """Images of named classes. Reading is safe from several threads at once."""

    @property
    def name(self) -> str:
        """The folder name of data sets made of this source."""

    @property
    def description(self) -> str:
        """The source in one line, for people."""

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names in the order of the labels."""

    @property
    def examples(self) -> Sequence[Example]:
        """All images, in any order."""

    @property
    def problems(self) -> Sequence[Skipped]:
        """What lies among the images and cannot be one."""

    def read(self, position: int) -> bytes:
        """The encoded image (JPEG, PNG, ...) of `examples[position]`.

        Raises:
            OSError: it cannot be read.
        """


def read_encoded(source: Source, position: int) -> bytes:
    """The encoded image of `source.examples[position]`.

    Raises:
        StorageError: it cannot be read. That says nothing of the image, so it is never left out for it.
    """
    try:
        return source.read(position)
    except OSError as error:
        place = f"{source.description}: {source.examples[position].id}"
        remedy = "grant access, or check the disk or the network that it lies on, then run prepare again"
        kind = type(as_storage_error(error, Path(place)))
        raise kind(f"{place}: cannot be read: {error.strerror or error}; {remedy}") from error
