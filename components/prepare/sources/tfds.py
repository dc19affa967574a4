"""Any TensorFlow Datasets builder whose examples have an `image` and a class `label`.

The builder runs once, into `<root>/tfds`, unless a `data_dir` holds its data already; its files then give
random access to the images as they were encoded. TensorFlow Datasets, and so TensorFlow, is imported when
such a source is opened.
"""

import contextlib
import difflib
import errno
import functools
import http.client
import os
import sys
import tarfile
import urllib.error
import urllib.request
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from optduel.components.core import DataError, ExperimentError, OptduelError, say
from optduel.components.prepare.sources.archives import Archive, download_path
from optduel.components.prepare.sources.source import Example
from optduel.components.prepare.sources.tfds_prepared import PreparedData
from optduel.components.records import Skipped
from optduel.components.settings import TfdsSource
from optduel.components.storage import as_storage_error


class Tfds:
    """The examples of a builder's split, and of a second one as the test split where the source names one.

    Args:
        source: which builder, version, splits, and downloads that the user has.
        root: the builder prepares its data in `root`/tfds.

    Raises:
        ExperimentError: no such builder, version or split, or one whose examples are not classified images.
        DataError: the download failed, or the builder cannot use what it was given.
        StorageError: the data cannot be written.
    """

    problems: Sequence[Skipped] = ()

    def __init__(self, source: TfdsSource, root: Path) -> None:
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # read once, when TensorFlow is imported
        import tensorflow_datasets as tfds

        archive: Archive | None = None
        self._examples_of: Callable[..., Any]
        if source.data_dir is not None:
            prepared = PreparedData(tfds, source.data_dir, source.name, source.version)
            builder, self._examples_of = prepared.builder, prepared.examples
            _check_features(tfds, builder, source.name)
        else:
            builder_class = find_builder(tfds, source)
            archive = Archive(source.archive, builder_class) if source.archive is not None else None
            # What one archive holds must not be taken for what another, or the download, would give.
            place = root / "tfds" / (f"archive-{archive.sha256[:16]}" if archive else "")
            builder = open_builder(tfds, source, place)
            _check_features(tfds, builder, source.name)
            run_builder(tfds, builder, source, archive)
            decoders = {"image": tfds.decode.SkipDecoding()}
            self._examples_of = functools.partial(builder.as_data_source, decoders=decoders)
        self.name = source.name.replace("/", "-")
        self.description = _describe(builder, source, archive)
        self.classes = tuple(str(name) for name in builder.info.features["label"].names)
        self.examples: list[Example] = []
        self._stored: list[tuple[Any, int]] = []
        self._add(builder, source.split, "split")
        if source.test_split is not None:
            self._add(builder, source.test_split, "test_split")

    def read(self, position: int) -> bytes:
        """The image as the builder stored it: as downloaded, or PNG where the builder had pixels."""
        examples, index = self._stored[position]
        return bytes(examples[index]["image"])

    def _add(self, builder: Any, split: str, field: str) -> None:
        where = f"data.source.{field} = {split}"
        declared = "test" if field == "test_split" else None
        try:
            examples = self._examples_of(split=split)
        except ValueError as error:
            known = ", ".join(builder.info.splits)
            raise ExperimentError(f"{where}: {builder.name} has no such split; it has {known}") from error
        for index in range(len(examples)):
            label = examples[index]["label"]
            if not 0 <= label < len(self.classes):
                raise ExperimentError(f"{where}: its images have no labels; name a split that has them")
            self.examples.append(Example(f"{split}/{index}", int(label), declared))
            self._stored.append((examples, index))


def _check_features(tfds: Any, builder: Any, name: str) -> None:
    described = builder.info.features
    features = described if isinstance(described, tfds.features.FeaturesDict) else {}
    for feature, kind in (("image", tfds.features.Image), ("label", tfds.features.ClassLabel)):
        if feature not in features or not isinstance(features[feature], kind):
            raise ExperimentError(
                f"data.source.name = {name}: its examples have {', '.join(features)}; "
                "needed are an image `image` and a class `label`"
            )
    image = features["image"]
    if isinstance(image, tfds.features.LabeledImage):
        raise ExperimentError(
            f"data.source.name = {name}: the pixels of its `image` are numbers of classes; needed are colours"
        )
    dtype = np.dtype(image.np_dtype).name
    if dtype != "uint8":
        # The PNG files of float32 hold the four bytes of each number as colours, those of uint16 any range.
        raise ExperimentError(
            f"data.source.name = {name}: its images are {dtype}; needed are uint8 values 0..255: "
            "scale them in the builder"
        )


def _describe(builder: Any, source: TfdsSource, archive: Archive | None) -> str:
    splits = f"split {source.split}" + (f", test split {source.test_split}" if source.test_split else "")
    origin = f", from {archive.description}" if archive else ""
    return f"TensorFlow Datasets {builder.info.full_name}, {splits}{origin}"


_PROBE_SECONDS = 10.0
_PROBED_HOSTS = 3
_QUOTED_CHARACTERS = 400

# Builders are other people's code reading other people's files; these are their errors for unexpected files.
_BUILDER_FAILURES = (
    ArithmeticError,
    AssertionError,
    EOFError,
    ImportError,
    LookupError,
    RuntimeError,
    TypeError,
    ValueError,
    tarfile.TarError,
    zipfile.BadZipFile,
    zlib.error,
)


def find_builder(tfds: Any, source: TfdsSource) -> Any:
    """The builder's class.

    Args:
        tfds: the module `tensorflow_datasets`.
        source: names the builder.

    Raises:
        ExperimentError: there is no such builder; names similar ones.
    """
    name = source.name.partition("/")[0]
    try:
        return tfds.builder_cls(name)
    except tfds.core.DatasetNotFoundError as error:
        # Without the community's builders, whose list lies in a bucket on the network.
        known = tfds.list_builders(with_community_datasets=False)
        close = difflib.get_close_matches(name, known, n=3)
        remedy = f"did you mean {' or '.join(close)}?" if close else "tfds.list_builders() names them"
        message = f"data.source.name = {source.name}: TensorFlow Datasets has no such builder; {remedy}"
        raise ExperimentError(message) from error


def open_builder(tfds: Any, source: TfdsSource, place: Path) -> Any:
    """The builder with its configuration and version; it keeps its data under `place`.

    Raises:
        ExperimentError: it has no such configuration or version.
    """
    version = {"version": source.version} if source.version is not None else {}
    try:
        return tfds.builder(source.name, data_dir=place, file_format="array_record", **version)
    except (AssertionError, ValueError, RuntimeError) as error:
        version_asked = f", version = {source.version}" if source.version is not None else ""
        reason = _quote(error).rpartition('}": ')[2]
        raise ExperimentError(f"data.source.name = {source.name}{version_asked}: {reason}") from error


def run_builder(tfds: Any, builder: Any, source: TfdsSource, archive: Archive | None) -> None:
    """Runs the builder unless it has run; what it says goes to standard error.

    Raises:
        DataError: the download failed, or the builder cannot use the files.
        StorageError: the data cannot be written.
    """
    if Path(builder.data_dir).exists():  # it appears when the builder has finished
        return
    downloads = Path(builder.data_dir_root) / "downloads"
    if not sys.stderr.isatty():
        tfds.disable_progress_bar()
    # The public bucket of prepared data is not asked: it may be out of reach, and the archive has to count.
    config = tfds.download.DownloadConfig(
        try_download_gcs=False, compute_stats=tfds.download.ComputeStatsMode.SKIP
    )
    with _failures_explained(tfds, builder, source), contextlib.redirect_stdout(sys.stderr):
        if archive is not None:
            say(f"prepare: {archive.description} stands for what {builder.name} downloads")
            archive.place(downloads)
        elif builder.MANUAL_DOWNLOAD_INSTRUCTIONS is not None:
            instructions = " ".join(builder.MANUAL_DOWNLOAD_INSTRUCTIONS.split())
            raise DataError(
                f"data.source.archive: {builder.name} needs files fetched by hand: {instructions}"
            )
        else:
            infos = (builder.url_infos or {}).items()
            absent = [
                url for url, info in infos if not download_path(downloads, builder.name, url, info).exists()
            ]
            _probe_network(source, absent)
        builder.download_and_prepare(download_dir=downloads, download_config=config)


def _probe_network(source: TfdsSource, urls: Iterable[str]) -> None:
    """Asks one of the hosts for a sign of life: TensorFlow Datasets retries a dead one for minutes."""
    by_host = {urlsplit(url).netloc: url for url in urls if url.startswith("http")}
    failure: DataError | None = None
    for url in list(by_host.values())[:_PROBED_HOSTS]:
        try:
            with urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=_PROBE_SECONDS):
                return
        except (urllib.error.HTTPError, http.client.HTTPException):
            return  # an answer, if only that HEAD is not allowed
        except OSError as error:
            failure = _download_failure(source, url, getattr(error, "reason", error))
    if failure is not None:
        raise failure


@contextlib.contextmanager
def _failures_explained(tfds: Any, builder: Any, source: TfdsSource) -> Iterator[None]:
    from tensorflow_datasets.core.download.download_manager import NonMatchingChecksumError

    try:
        yield
    except OptduelError:
        raise
    except (tfds.download.DownloadError, NonMatchingChecksumError) as error:
        raise _download_failure(source, "a file", error) from error
    except OSError as error:
        # TensorFlow Datasets downloads with requests, whose errors are OSErrors that hold the request.
        if (request := getattr(error, "request", None)) is not None:
            raise _download_failure(source, request.url, error) from error
        raise as_storage_error(error, Path(builder.data_dir)) from error
    except _BUILDER_FAILURES as error:
        if os.strerror(errno.ENOSPC) in str(error):
            full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            raise as_storage_error(full, Path(builder.data_dir)) from error
        cause = f"{type(error).__name__}: {_quote(error)}"
        raise DataError(
            f"data.source.name = {source.name}: its builder cannot use the files: {cause}"
        ) from error


def _download_failure(source: TfdsSource, url: str, reason: object) -> DataError:
    remedy = "fetch it where there is a network and name the file in data.source.archive"
    return DataError(f"data.source.name = {source.name}: cannot download {url} ({_quote(reason)}); {remedy}")


def _quote(error: object) -> str:
    """What an exception says, in one line of bounded length."""
    text = " ".join(str(error).split())
    return text if len(text) <= _QUOTED_CHARACTERS else f"{text[:_QUOTED_CHARACTERS]}..."
