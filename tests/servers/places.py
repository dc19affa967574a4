"""Folders in stores on loopback, each behind a proxy of its own."""

import dataclasses
from collections.abc import Callable

from tests.faults.proxy import FaultProxy


@dataclasses.dataclass(frozen=True)
class Place:
    """An empty folder in a store."""

    kind: str
    root: str
    proxy: FaultProxy


PlaceOf = Callable[[str], Place]
