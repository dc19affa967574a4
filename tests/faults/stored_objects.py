"""Whoever reads all that is in a folder while it is written: what is there is whole at any moment."""

import io
import json
import threading
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from optduel.components.core import StorageError
from optduel.components.records import frame
from optduel.components.results import decode_history
from optduel.components.storage import list_entries, read, stat

PAUSE_SECONDS = 0.05
"""Between two looks at everything that is there."""


def check_whole(uri: str, content: bytes) -> None:
    """Raises where an object is not what its name says."""
    name = uri.rpartition("/")[2]
    if name.endswith((".npz", ".keras")):
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            assert archive.testzip() is None
    elif name.endswith(".json"):
        json.loads(content)
    elif name == "history.jsonl":
        assert decode_history(content, uri)
    else:
        length = int.from_bytes(content[:8], "little")
        assert frame(content[12 : 12 + length]) == content[: 16 + length], f"{uri}: no event file"


@contextmanager
def reading(folder: str) -> Iterator[set[str]]:
    """Reads whatever is in a folder again and again; yields the kinds of objects that were seen.

    A kind is the name below the folder, or that of the folder within it.
    """
    seen: set[str] = set()
    versions: dict[str, str] = {}
    ended = threading.Event()

    def look() -> None:
        for entry in list_entries(folder):
            if versions.get(entry.uri) == entry.version:
                continue
            try:
                content = read(entry.uri)
            except StorageError:
                if stat(entry.uri) is None:  # the oldest checkpoint goes when a new one has come
                    continue
                raise
            check_whole(entry.uri, content)
            versions[entry.uri] = entry.version
            seen.add(entry.uri.removeprefix(f"{folder}/").partition("/")[0])

    def go_on() -> None:
        while not ended.wait(PAUSE_SECONDS):
            look()
        look()

    with ThreadPoolExecutor(1) as pool:
        looking = pool.submit(go_on)
        try:
            yield seen
        finally:
            ended.set()
        looking.result()
