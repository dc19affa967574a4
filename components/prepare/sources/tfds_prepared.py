"""Reads what TensorFlow Datasets has prepared elsewhere, a `data_dir` on this machine or in a store.

TensorFlow Datasets cannot read every store that this package can, so files of a store come to the disk first:
those of the splits that are asked for, once.
"""

import contextlib
import hashlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from optduel.components.core import DataError, ExperimentError
from optduel.components.decoding import parse_json
from optduel.components.records import hold, make_room, sound_examples, staging_folder
from optduel.components.storage import (
    Download,
    Entry,
    as_storage_error,
    download,
    is_remote,
    join,
    list_entries,
    local_path,
)

_INFO_FILE = "dataset_info.json"
_FEATURES_FILE = "features.json"
_FEATURES = "tensorflow_datasets.core.features."
"""Where TensorFlow Datasets' own features are."""

_SHARD_MARK = "-of-"
"""In the names of files that hold examples, and of no others."""


class PreparedData:
    """The data of one builder, configuration and version below a `data_dir`.

    Args:
        tfds: the module `tensorflow_datasets`.
        data_dir: the folder that holds `<name>/<version>/` or `<name>/<configuration>/<version>/`.
        name: of the builder, with its configuration if it has one.
        version: the newest one that is there when None.

    Attributes:
        builder: reads the data.

    Raises:
        DataError: there is no such data.
        StorageError: it cannot be read.
    """

    def __init__(self, tfds: Any, data_dir: str, name: str, version: str | None) -> None:
        self._where = f"data.source.data_dir = {data_dir}"
        self._tfds = tfds
        place = join(data_dir if is_remote(data_dir) else str(local_path(data_dir)), name)
        place = join(place, _choose_version(place, version, f"{self._where}: holds no {name}"))
        self._entries = {entry.uri.rpartition("/")[2]: entry for entry in list_entries(place)}
        self._is_remote = is_remote(place)
        self._folder = _copies_folder(list(self._entries.values())) if self._is_remote else Path(place)
        if self._is_remote:
            hold(self._folder)  # as long as this process lives
        self._fetch([file for file in self._entries if _SHARD_MARK not in file])
        self._refuse_foreign_features()
        try:
            self.builder = tfds.builder_from_directory(self._folder)
        except (AssertionError, FileNotFoundError, LookupError, ValueError) as error:
            reason = " ".join(str(error).split())[:400]
            raise DataError(f"{self._where}: {place} cannot be opened: {reason}") from error

    def examples(self, split: str) -> Any:
        """Random access to a split, or to a part of one such as "train[:50%]", images still encoded.

        Raises:
            ValueError: there is no such split.
            ExperimentError: its files have a format without random access.
            DataError: a file is missing or damaged.
            StorageError: a file cannot be read.
        """
        instructions = self.builder.info.splits[split].file_instructions
        self._fetch([Path(instruction.filename).name for instruction in instructions])
        decoders = {"image": self._tfds.decode.SkipDecoding()}
        match self.builder.info.file_format.value:
            case "array_record":
                return self.builder.as_data_source(split=split, decoders=decoders)
            case "tfrecord":
                return _TFRecordExamples(self.builder.info.features, decoders, instructions)
            case other:
                raise ExperimentError(
                    f"{self._where}: its files are {other}; needed are tfrecord or array_record"
                )

    def _fetch(self, files: Sequence[str]) -> None:
        """Brings files from the store that are not here yet."""
        if missing := [file for file in files if file not in self._entries]:
            raise DataError(f"{self._where}: {', '.join(missing)} is missing; prepare the data there again")
        if not self._is_remote:
            return
        wanted = [self._entries[file] for file in files if not self._is_here(file)]
        make_room(sum(entry.bytes for entry in wanted), self._where)
        download(
            [
                Download(entry.uri, self._folder / entry.uri.rpartition("/")[2], entry.bytes, entry.crc32c)
                for entry in wanted
            ]
        )

    def _refuse_foreign_features(self) -> None:
        """Refuses a description of the features that would have TensorFlow Datasets import other modules."""
        path = self._folder / _FEATURES_FILE
        try:
            described = parse_json(path.read_bytes())
        except FileNotFoundError:
            return  # TensorFlow Datasets says so in its own words
        except OSError as error:
            raise as_storage_error(error, path) from error
        except ValueError as error:
            raise DataError(f"{path}: {error}; prepare the data there again") from error
        foreign = [name for name in _class_names(described) if not name.startswith(_FEATURES)]
        if foreign:
            raise DataError(
                f"{path}: names the class {foreign[0][:200]!r}, whose module would be imported; "
                f"needed are classes of {_FEATURES[:-1]}"
            )

    def _is_here(self, file: str) -> bool:
        path = self._folder / file
        return path.is_file() and path.stat().st_size == self._entries[file].bytes


def _class_names(described: Any) -> Iterator[str]:
    """What a description names as classes, in its present form and in the older one, at any depth."""
    waiting = [described]
    while waiting:
        part = waiting.pop()
        if isinstance(part, dict):
            names = (part.get(key) for key in ("pythonClassName", "python_class_name", "type"))
            yield from (name for name in names if isinstance(name, str) and "." in name)
            waiting += part.values()
        elif isinstance(part, list):
            waiting += part
        elif isinstance(part, str) and "{" in part:  # older descriptions hold parts as JSON text
            with contextlib.suppress(ValueError):
                waiting.append(parse_json(part))


def _choose_version(place: str, version: str | None, where: str) -> str:
    infos = [entry.uri.removeprefix(f"{place}/") for entry in list_entries(place)]
    found = [info.removesuffix(f"/{_INFO_FILE}") for info in infos if info.endswith(f"/{_INFO_FILE}")]
    versions = [name for name in found if name.replace(".", "").isdecimal()]
    if version in versions:
        return version
    if version is not None or not versions:
        there = f"there are {', '.join(sorted(found))}" if found else "it has no prepared data of that name"
        raise DataError(f"{where}{f' version {version}' if version else ''}; {there}")
    return max(versions, key=lambda name: [int(part) for part in name.split(".")])


def _copies_folder(entries: Sequence[Entry]) -> Path:
    """A folder of its own for each state of the files in the store."""
    listing = "".join(f"{entry.uri} {entry.version}\n" for entry in entries)
    return staging_folder() / "tfds" / hashlib.sha256(listing.encode()).hexdigest()[:32]


class _TFRecordExamples:
    """Examples of TFRecord files by their places; safe from several threads at once."""

    def __init__(self, features: Any, decoders: Any, instructions: Sequence[Any]) -> None:
        self._features = features
        self._decoders = decoders
        self._places: list[tuple[Path, int, int]] = []
        for instruction in instructions:
            path = Path(instruction.filename)
            try:
                places = [(path, start, len(example)) for start, example in sound_examples(path)]
            except OSError as error:
                raise as_storage_error(error, path) from error
            if len(places) != instruction.examples_in_shard:
                raise DataError(
                    f"{path}: is damaged after {len(places)} of {instruction.examples_in_shard} examples; "
                    "prepare the data again"
                )
            self._places += places[instruction.skip :][: instruction.take]

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, index: int) -> Any:
        path, start, length = self._places[index]
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            example = os.pread(descriptor, length, start)
        finally:
            os.close(descriptor)
        return self._features.deserialize_example_np(example, decoders=self._decoders)
