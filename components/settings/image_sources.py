"""Where images come from: what each kind of source asks of its author, and what it answers."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from optduel.components.settings.section import Place, Section
from optduel.components.storage import is_remote


class BaseSource(Section):
    """What every source of images answers. A class that lacks an answer cannot be instantiated.

    To add a source: a class here, its place in `Source`, and what opens it in `prepare.sources`.
    """

    @property
    @abstractmethod
    def places(self) -> Mapping[str, str]:
        """The paths and URIs that images are read from, by the field that names them."""

    @property
    def readable(self) -> Sequence[str]:
        """The places that tasks have to be able to read, with all that lies below them."""
        return list(self.places.values())

    @property
    @abstractmethod
    def is_downloaded(self) -> bool:
        """Whether images come over a network, checked by checksums: the name stands for the content."""

    @property
    @abstractmethod
    def has_test_split(self) -> bool:
        """Whether it brings a test split of its own."""

    @property
    @abstractmethod
    def example_count(self) -> int | None:
        """How many images it has, where this is known before they are looked at."""


class DigitsSource(BaseSource):
    """The 1,797 handwritten digits that scikit-learn ships: grey 8 x 8 pixels, ten classes."""

    kind: Literal["digits"] = "digits"

    @property
    def places(self) -> Mapping[str, str]:
        """None: scikit-learn is installed."""
        return {}

    @property
    def is_downloaded(self) -> bool:
        """No."""
        return False

    @property
    def has_test_split(self) -> bool:
        """No."""
        return False

    @property
    def example_count(self) -> int | None:
        """Of every version of scikit-learn."""
        return 1_797


class TfdsSource(BaseSource):
    """A TensorFlow Datasets builder whose examples have an `image` and a class `label`.

    Attributes:
        name: the builder's name, for example "tf_flowers".
        version: a version of the builder; its newest one when absent.
        split: the TFDS split that is divided by `data.split`.
        test_split: a TFDS split that is the test split as it stands; `data.split.test` must be 0 then.
        archive: the downloaded file that the builder asks for, or a folder of such files, for
            machines without network.
        data_dir: a folder, here or in a store, where TensorFlow Datasets has prepared the data already; it
            holds `<name>/<version>/`.
    """

    kind: Literal["tfds"] = "tfds"
    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*(/[A-Za-z0-9_.-]+)?$")]
    version: str | None = None
    split: str = "train"
    test_split: str | None = None
    archive: Place | None = None
    data_dir: Place | None = None

    @field_validator("archive")
    @classmethod
    def _here(cls, archive: str | None) -> str | None:
        if archive is not None and is_remote(archive):
            raise ValueError("must be on this machine; name prepared data in a store as data_dir")
        return archive

    @model_validator(mode="after")
    def _one_origin(self) -> Self:
        if self.archive is not None and self.data_dir is not None:
            raise ValueError("archive and data_dir are set: prepared data needs no download, keep one")
        return self

    @property
    def places(self) -> Mapping[str, str]:
        """Those that are set."""
        named = {"archive": self.archive, "data_dir": self.data_dir}
        return {name: place for name, place in named.items() if place is not None}

    @property
    def is_downloaded(self) -> bool:
        """Unless the user has the files already."""
        return not self.places

    @property
    def has_test_split(self) -> bool:
        """Where it is named."""
        return bool(self.test_split)

    @property
    def example_count(self) -> int | None:
        """Unknown."""
        return None


class FolderSource(BaseSource):
    """A folder with one sub-folder of images for each class: `path/class/image.jpg`.

    Folders called train, validation (val, valid, dev) and test that hold those of the classes are splits.

    Attributes:
        path: the folder, or a tar or zip archive of one, here or in a store.
    """

    kind: Literal["folder"] = "folder"
    path: Place

    @property
    def places(self) -> Mapping[str, str]:
        """The folder."""
        return {"path": self.path}

    @property
    def is_downloaded(self) -> bool:
        """No: its content can change."""
        return False

    @property
    def has_test_split(self) -> bool:
        """No."""
        return False

    @property
    def example_count(self) -> int | None:
        """Unknown."""
        return None


class TableSource(BaseSource):
    """A table with a row for each image: its path or its bytes, its label, perhaps its split and its group.

    Attributes:
        path: a CSV, JSON lines or Parquet file, or a folder of Parquet files, as Hugging Face exports them.
        image: the column of paths, relative to the table's folder, or URIs, or of bytes; found by its usual
            names (image, path, file, filename, ...) when absent, as the others are.
        label: the column of labels, text or integers.
        split: the column that says train, validation or test.
        group: the column whose images stay together, say a patient, a film or a product.
        names: a text file with a name in each line, for labels 0, 1, 2, ...
        delimiter: of CSV; found when absent.
        encoding: of text; UTF-8 when absent.
    """

    kind: Literal["table"] = "table"
    path: Place
    image: str | None = None
    label: str | None = None
    split: str | None = None
    group: str | None = None
    names: Place | None = None
    delimiter: Annotated[str, Field(min_length=1, max_length=1)] | None = None
    encoding: str | None = None

    @property
    def places(self) -> Mapping[str, str]:
        """The table, and the file of names."""
        return {"path": self.path} | ({"names": self.names} if self.names else {})

    @property
    def readable(self) -> Sequence[str]:
        """The table's folder, which images lie below, and the file of names."""
        return [self.folder, *([self.names] if self.names else [])]

    @property
    def folder(self) -> str:
        """The folder that paths of images are relative to: the table's, or itself where it is one."""
        path = self.path.rstrip("/")
        is_file = path.lower().endswith(TABLE_SUFFIXES)
        return (path.rpartition("/")[0] or ("/" if path.startswith("/") else ".")) if is_file else path

    @property
    def is_downloaded(self) -> bool:
        """No: its content can change."""
        return False

    @property
    def has_test_split(self) -> bool:
        """Unknown before it is read."""
        return False

    @property
    def example_count(self) -> int | None:
        """Unknown."""
        return None


TABLE_SUFFIXES = (".csv", ".tsv", ".txt", ".jsonl", ".ndjson", ".json", ".parquet")
"""Endings of tables' names."""

Source = Annotated[DigitsSource | TfdsSource | FolderSource | TableSource, Field(discriminator="kind")]
