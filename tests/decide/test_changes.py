"""Two data sets compared, image by image."""

import numpy as np

from optduel.components.champions import ImageList, image_id
from optduel.components.decide.changes import compare_images, share_drift


def images(**classes: str) -> ImageList:
    """Images named by letters, a class for each: rose="abc"."""
    pairs = [(letter, name) for name, letters in classes.items() for letter in letters]
    return ImageList(
        [letter for letter, _ in pairs],
        ["train"] * len(pairs),
        [name for _, name in pairs],
        np.linspace(0, 1, len(pairs)),
    )


def test_added_removed_and_relabelled_images_are_counted_by_class() -> None:
    found = compare_images(images(rose="abcd", tulip="efg"), images(rose="abx", tulip="efgd", daisy="yz"))
    told = {
        one.name: (one.before, one.after, one.added, one.removed, one.relabelled) for one in found.classes
    }
    assert told == {"daisy": (0, 2, 2, 0, 0), "rose": (4, 3, 1, 1, 0), "tulip": (3, 4, 0, 0, 1)}
    assert found.brightness is not None
    assert len(found.brightness.added) == 5


def test_equal_data_has_not_changed() -> None:
    one = images(rose="abcd", tulip="efg")
    found = compare_images(one, one)
    assert not any(change.added or change.removed or change.relabelled for change in found.classes)
    assert found.drift_p_value is None
    assert found.brightness is None


def test_drift_of_shares_is_found_and_equal_shares_are_not_called_drift() -> None:
    assert share_drift([100, 100, 100], [10, 10, 10]) == 1
    assert (share_drift([100, 100, 100], [60, 10, 10]) or 1) < 1e-6
    assert (share_drift([100, 100], [6, 0]) or 1) < 0.06, "few images: by permutation"
    assert share_drift([10, 0], [3, 0]) is None
    assert share_drift([10, 5], [0, 0]) is None


def test_drift_holds_its_level() -> None:
    generator = np.random.default_rng(0)
    shares = [0.5, 0.3, 0.2]
    p_values = [
        share_drift(generator.multinomial(300, shares).tolist(), generator.multinomial(100, shares).tolist())
        for _ in range(400)
    ]
    assert np.mean([p is not None and p < 0.05 for p in p_values]) < 0.05 + 3 * np.sqrt(0.05 * 0.95 / 400)


def test_an_image_is_known_by_its_pixels_and_size() -> None:
    pixels = np.arange(64, dtype=np.uint8).reshape(8, 8, 1)
    assert image_id(pixels) == image_id(pixels.copy())
    assert image_id(pixels) != image_id(pixels.reshape(4, 16, 1))
    assert image_id(pixels) != image_id(pixels + 1)
