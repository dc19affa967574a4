"""Images that look alike are found, told, moved or refused, and others are not taken for alike."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import imagehash
import numpy as np
import pytest
from PIL import Image, ImageDraw

from optduel.components.core import DataError
from optduel.components.prepare import resemblance
from optduel.components.prepare.decoder import LEAST_PIXELS, small_grey
from optduel.components.prepare.prepare import prepare_source
from optduel.components.prepare.resemblance import alike_pairs, perceptual_hashes
from optduel.components.settings import Data, Split

Settings = Callable[..., Data]
SIDE = 96


def scene(seed: int, width: int = 256, height: int = 192) -> Image.Image:
    """A picture with the frequencies of photos, about one over the frequency, and some shapes in front."""
    generator = np.random.default_rng(seed)
    pixels = np.zeros((height, width, 3))
    for octave in range(6):
        side = 2 ** (octave + 1)
        patches = generator.normal(0, 60 / 1.6**octave, (side, side, 3))
        for channel in range(3):
            layer = Image.fromarray(patches[:, :, channel].astype(np.float32))
            pixels[:, :, channel] += np.asarray(layer.resize((width, height), Image.Resampling.BICUBIC))
    image = Image.fromarray(np.clip(pixels + 128, 0, 255).astype(np.uint8))
    draw = ImageDraw.Draw(image)
    for _ in range(4):
        x, y = generator.integers(0, (width, height))
        radius = int(generator.integers(width // 32, width // 5))
        colour = tuple(int(value) for value in generator.integers(0, 256, 3))
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=colour)
    return image


def encoded(image: Image.Image, quality: int = 90) -> bytes:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality)
    return file.getvalue()


def hash_of(content: bytes) -> np.ndarray:
    image = Image.open(io.BytesIO(content)).convert("RGB").resize((SIDE, SIDE), Image.Resampling.BILINEAR)
    return hashes_of([image])[0]


def hashes_of(images: list[Image.Image]) -> np.ndarray:
    small = [small_grey(image) or b"" for image in images]
    pixels = np.frombuffer(b"".join(small), np.uint8)
    return perceptual_hashes(pixels.reshape(len(images), LEAST_PIXELS, LEAST_PIXELS))


def changed(image: Image.Image, change: str) -> bytes:
    width, height = image.size
    match change:
        case "encoded again":
            return encoded(image, 40)
        case "halved":
            return encoded(image.resize((width // 2, height // 2)), 85)
        case "cut":
            left, top = round(0.02 * width), round(0.02 * height)
            return encoded(image.crop((left, top, width - left, height - top)), 85)
    raise ValueError(change)


@pytest.mark.parametrize("change", ["encoded again", "halved", "cut"])
def test_a_changed_copy_is_alike(change: str) -> None:
    for seed in range(25):
        image = scene(seed)
        differing = np.bitwise_count(hash_of(encoded(image)) ^ hash_of(changed(image, change))).sum()
        assert differing <= resemblance.ALIKE_BITS, seed


def test_of_a_thousand_scenes_no_two_are_alike_but_the_planted_ones() -> None:
    scenes = [scene(seed, 64, 48) for seed in range(1_000)]
    hashes = [hash_of(encoded(image)) for image in scenes]
    hashes += [hash_of(changed(scenes[number], "encoded again")) for number in (3, 500, 999)]
    pairs, is_complete = alike_pairs(np.array(hashes), 2)
    assert pairs.tolist() == [[3, 1000], [500, 1001], [999, 1002]]
    assert is_complete


def test_the_hash_is_that_of_imagehash() -> None:
    images = [scene(seed, 64, 64) for seed in range(20)]
    for image, bits in zip(images, hashes_of(images), strict=True):
        expected = imagehash.phash(image.convert("L").reduce(2), 16, 2).hash
        np.testing.assert_array_equal(np.unpackbits(bits).reshape(16, 16), expected)


def test_flat_and_tiny_images_have_no_hash() -> None:
    assert small_grey(Image.new("RGB", (64, 64), (200, 10, 30))) is None
    assert small_grey(scene(0, 31, 64)) is None


def test_pairs_are_those_of_a_comparison_of_all_with_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resemblance, "_COLUMNS", 50)
    generator = np.random.default_rng(0)
    base = generator.integers(0, 256, (40, 32), dtype=np.uint8)
    flips = generator.random((300, 32, 8)) < 0.06
    hashes = base[generator.integers(0, 40, 300)] ^ np.packbits(flips, axis=2)[:, :, 0]
    pairs, _ = alike_pairs(hashes, 2)
    bits = np.unpackbits(hashes, axis=1)
    low = bits.reshape(300, 16, 16)[:, :8, :8].reshape(300, 64)
    expected = [
        [first, second]
        for first in range(300)
        for second in range(first + 1, 300)
        if (bits[first] != bits[second]).sum() <= 60 and (low[first] != low[second]).sum() <= 16
    ]
    assert sorted(pairs.tolist()) == expected
    monkeypatch.setattr(resemblance, "PAIRS_LIMIT", 10)
    some, is_complete = alike_pairs(hashes, 2)
    assert len(some) == 10
    assert not is_complete


@pytest.fixture
def source(memory_source: Any) -> Any:
    """Sixty scenes of three classes, and ten of them encoded anew, one of these of another class."""
    images = [(f"scene {seed}", seed % 3, encoded(scene(seed, 128, 96)), False) for seed in range(60)]
    again = [
        (f"again {seed}", (seed + (seed == 0)) % 3, changed(scene(seed, 128, 96), "encoded again"), False)
        for seed in range(10)
    ]
    return memory_source([*images, *again])


def test_alike_images_are_told_moved_or_refused(source: Any, settings: Settings, tmp_path: Path) -> None:
    wanted: dict[str, Any] = {"image_size": (64, 64), "split": Split(train=0.5, validation=0.25, test=0.25)}
    told = prepare_source(source, settings(**wanted), tmp_path, 2).manifest
    assert told.resemblances.searched
    assert told.resemblances.pairs == 10
    assert told.resemblances.across > 0
    assert told.resemblances.conflicting == 1
    assert all(pair.images[0].startswith("again") for pair in told.resemblances.shown)
    first = told.resemblances.shown[0]
    assert first.splits[0] != first.splits[1]
    moved = prepare_source(source, settings(near_duplicates="move", **wanted), tmp_path, 2).manifest
    assert moved.fingerprint != told.fingerprint
    assert (moved.resemblances.pairs, moved.resemblances.across) == (10, 0)
    assert sum(split.records for split in moved.splits.values()) == 70
    assert prepare_source(source, settings(near_duplicates="move", **wanted), tmp_path, 1).manifest == moved
    with pytest.raises(DataError) as caught:
        prepare_source(source, settings(near_duplicates="refuse", **wanted), tmp_path / "other", 2)
    head, *lines = str(caught.value).splitlines()
    assert head == (
        f"images in memory: {told.resemblances.across} pair(s) of images look alike across splits; "
        "remove one of each, or put them into one split with data.near_duplicates = move"
    )
    assert len(lines) == told.resemblances.across
    assert not (tmp_path / "other").exists()


def test_what_looks_like_a_declared_test_image_is_set_aside(
    memory_source: Any, settings: Settings, tmp_path: Path
) -> None:
    images = [(f"scene {seed}", seed % 3, encoded(scene(seed, 128, 96)), False) for seed in range(30)]
    tests = [(f"test {seed}", seed, changed(scene(seed, 128, 96), "halved"), True) for seed in range(3)]
    data = settings(
        image_size=(64, 64), near_duplicates="move", split=Split(train=0.8, validation=0.2, test=0)
    )
    manifest = prepare_source(memory_source([*images, *tests]), data, tmp_path, 2).manifest
    assert manifest.splits["test"].records == 3
    assert [(entry.image, entry.reason) for entry in manifest.skipped] == [
        (f"scene {seed}", f"looks like test {seed} of the test split") for seed in range(3)
    ]


def test_images_smaller_than_the_hash_are_not_searched(
    images: Any, memory_source: Any, settings: Settings, tmp_path: Path
) -> None:
    found = prepare_source(memory_source(images), settings(), tmp_path, 1).manifest.resemblances
    assert not found.searched
    assert found.pairs == 0
