"""Folders in stores on loopback, each behind a proxy of its own."""

import dataclasses
from collections.abc import Callable

import pytest

from tests.faults.proxy import FaultProxy


@dataclasses.dataclass(frozen=True)
class Place:
    """An empty folder in a store."""

    kind: str
    root: str
    proxy: FaultProxy


PlaceOf = Callable[[str], Place]

one_store = pytest.mark.parametrize(
    "place", ["s3", pytest.param("gs", marks=pytest.mark.exhaustive)], indirect=True
)
"""For long lists of faults above the room storage, whose own tests have each fault in every store."""
