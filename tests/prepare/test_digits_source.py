import numpy as np
from sklearn.datasets import load_digits

from optduel.components.prepare.image import decoding
from optduel.components.prepare.room import Room
from optduel.components.prepare.sources import Digits


def test_digits_are_scikit_learns_with_values_spread_over_a_byte() -> None:
    source, original = Digits(), load_digits()
    assert source.classes == tuple("0123456789")
    assert len(source.examples) == 1797
    assert [example.label for example in source.examples] == original.target.tolist()
    for position in (0, 1, 1000, 1796):
        with decoding(source.read(position), Room(2**20)) as decoded:
            pixels = np.asarray(decoded.image)
        expected = [[round(value * 255 / 16) for value in row] for row in original.images[position]]
        assert pixels.tolist() == expected


def test_every_digit_is_another_image() -> None:
    source = Digits()
    assert len({source.read(position) for position in range(len(source.examples))}) == 1797
