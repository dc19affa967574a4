"""The 1,797 handwritten digits that scikit-learn ships: grey, 8 x 8 pixels, ten classes, no network."""

import io
from collections.abc import Sequence

import numpy as np
from PIL import Image

from optduel.components.prepare.sources.source import Example
from optduel.components.records import Skipped

_LARGEST_VALUE = 16
"""Pixels of the original are counts 0..16 of dark dots in cells of 4 x 4."""


class Digits:
    """scikit-learn's digits. Reference: E. Alpaydin and C. Kaynak, UCI Machine Learning Repository, 1998."""

    name = "digits"
    description = "handwritten digits of scikit-learn, 8 x 8 pixels"
    problems: Sequence[Skipped] = ()

    def __init__(self) -> None:
        # Other sources should not pay for this import.
        from sklearn.datasets import load_digits

        bunch = load_digits()
        self.classes = tuple(str(name) for name in bunch.target_names)
        self.examples = [
            Example(f"digit {position}", int(label)) for position, label in enumerate(bunch.target)
        ]
        self._pixels = np.rint(bunch.images * 255 / _LARGEST_VALUE).astype(np.uint8)

    def read(self, position: int) -> bytes:
        """The digit as a BMP file: uncompressed, so that no library's version changes the bytes."""
        encoded = io.BytesIO()
        Image.fromarray(self._pixels[position]).save(encoded, "BMP")
        return encoded.getvalue()
