"""Finds images that look alike: one photo saved twice, resized, slightly cut, or two of a burst.

Two images are alike where their perceptual hashes differ in few bits. The hash is that of the library
imagehash, `phash(image, 16, 2)`: which ones of the 16 x 16 lowest frequencies of the image at 32 x 32 grey
pixels are above their median.
"""

import threading
from collections.abc import Iterator

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from optduel.components.prepare.threads import in_threads

HASH_BYTES = 32

ALIKE_BITS = 60
"""Bits of 256 by which alike images differ at most.

Chosen after a look at tf_flowers: of its 6.7 million pairs of photos 25 to 27 are that near, and all of them
show one scene twice. Of 200 of the photos, encoded again or halved, none differs in more than 8 bits; cut by
2 % on each side, in 52 at most. Of those cut by 5 %, most are missed. `tests/prepare/test_resemblance.py`
holds it on images that it makes.
"""

ALIKE_LOW_BITS = 16
"""Bits of the lowest 8 x 8 frequencies by which alike images differ at most: a first, quick look."""

PAIRS_LIMIT = 1_000_000
"""With more pairs the images are frames of films, say, and the search ends."""

IMAGES_LIMIT = 2_000_000
"""The search compares all with all: 45,000 images take a core a second, two million half an hour."""

_HASH_SIDE = 16
_LOW_SIDE = 8
_ROWS = 64
_COLUMNS = 8192
"""Of a block of pairs, which fits into a processor's cache."""


def perceptual_hashes(small: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The hashes of many images at once, uint8 [n, HASH_BYTES]; imagehash's own code takes one at a time.

    Args:
        small: uint8 [n, 32, 32].
    """
    # What `dctn` gives, without the rows that nobody asks for.
    rows = scipy.fft.dct(small.astype(np.float64), axis=1)[:, :_HASH_SIDE]
    frequencies = scipy.fft.dct(rows, axis=2)[:, :, :_HASH_SIDE].reshape(len(small), -1)
    # What is above the lower one of the two in the middle is above the median between them.
    lower = frequencies.shape[1] // 2 - 1
    return np.packbits(frequencies > np.partition(frequencies, lower, axis=1)[:, lower, np.newaxis], axis=1)


def alike_pairs(hashes: NDArray[np.uint8], threads: int) -> tuple[NDArray[np.int64], bool]:
    """All pairs of rows whose hashes are alike, the smaller row first, in order.

    Args:
        hashes: uint8 [n, HASH_BYTES].

    Returns:
        int64 [pairs, 2], and whether these are all: the search ends after PAIRS_LIMIT.
    """
    words = np.ascontiguousarray(hashes).view(np.uint64)
    bits = np.unpackbits(hashes, axis=1).reshape(-1, _HASH_SIDE, _HASH_SIDE)[:, :_LOW_SIDE, :_LOW_SIDE]
    low = np.packbits(bits.reshape(len(hashes), -1), axis=1).view(np.uint64).ravel()
    del bits

    def look(start: int) -> NDArray[np.int64]:
        return np.concatenate([*_pairs_of(start, low, words), np.empty((0, 2), np.int64)])

    found: list[NDArray[np.int64]] = []
    count = 0
    for pairs in in_threads(look, range(0, len(low), _ROWS), threads, threading.Event()):
        found.append(pairs)
        count += len(pairs)
        if count > PAIRS_LIMIT:
            break
    joined = np.concatenate([*found, np.empty((0, 2), np.int64)])
    return joined[:PAIRS_LIMIT], count <= PAIRS_LIMIT


def _pairs_of(start: int, low: NDArray[np.uint64], words: NDArray[np.uint64]) -> Iterator[NDArray[np.int64]]:
    """The alike pairs whose first row is one of the block that begins at `start`."""
    rows = low[start : start + _ROWS, np.newaxis]
    for column in range(start, len(low), _COLUMNS):
        differing = np.bitwise_count(rows ^ low[np.newaxis, column : column + _COLUMNS])
        first, second = np.nonzero(differing <= ALIKE_LOW_BITS)
        first, second = first + start, second + column
        first, second = first[first < second], second[first < second]
        alike = np.bitwise_count(words[first] ^ words[second]).sum(axis=1) <= ALIKE_BITS
        yield np.stack([first[alike], second[alike]], axis=1)
