"""The recipe in words, images as the network saw them, and the best epoch against the last."""

import base64
import io

import numpy as np
import pytest
from PIL import Image

from optduel.components.augmentation import augment, epoch_draws
from optduel.components.records import first_examples
from optduel.components.report.training_recipe import best_and_last, recipe_rows, samples
from optduel.components.results import epochs_of
from optduel.components.settings import Augmentation, EarlyStopping


def with_training(study, **fields):
    return study.with_experiment(training=study.experiment.training.model_copy(update=fields))


def pixels_of(address: str) -> np.ndarray:
    content = base64.b64decode(address.removeprefix("data:image/png;base64,"))
    return np.asarray(Image.open(io.BytesIO(content)))


@pytest.mark.usefixtures("undrawn")
def test_the_page_tells_the_recipe_and_the_best_epoch(study, report, parse_page) -> None:
    rule = EarlyStopping(metric="accuracy", patience=3, min_change=0.01)
    augmentation = Augmentation(flip=True, cutout=3, mixup=0.2)
    cooked = with_training(
        study, augmentation=augmentation, label_smoothing=0.1, clip_norm=2, early_stopping=rule
    )
    page = parse_page(cooked.report().html)
    page.assert_is_self_contained()
    assert "horizontal flip, cutout of 3 px, mixup with α = 0.2" in page.text
    assert "clipped to a norm of 2" in page.text
    assert "after 3 epochs in which validation accuracy has not improved by more than 0.01" in page.text
    assert "do not compare with validation" in page.text
    assert "cannot be shown: the manifest names no shard of the training split" in page.text
    table = page.table("best")
    assert len(table) == 2 + 2
    assert "The recipe of all arms" not in parse_page(report.html).text


def test_nothing_is_told_of_what_is_off(study) -> None:
    assert recipe_rows(study.experiment) == []
    assert samples(study.experiment, study.records) == []


def test_best_is_by_the_rule_and_last_is_last(study) -> None:
    arms = {"adamw": study.trials.of("adamw")[:1]}
    validated = epochs_of(arms["adamw"][0].history, "validation")
    losses = [row.cross_entropy for row in validated]
    (row,) = best_and_last(study.experiment, arms)
    assert row.best_epoch == str(1 + int(np.argmin(losses)))
    assert row.best_cross_entropy == f"{min(losses):.4f}"
    assert (row.last_epoch, row.last_cross_entropy) == ("8", f"{losses[-1]:.4f}")
    patient = EarlyStopping(metric="accuracy", patience=8, min_change=0.9)
    (row,) = best_and_last(with_training(study, early_stopping=patient).experiment, arms)
    assert row.best_epoch == "1"


def test_samples_are_what_the_compiled_step_makes_of_the_first_images(study, records) -> None:
    augmentation = Augmentation(flip=True, crop_padding=2, brightness=0.4)
    shown = samples(with_training(study, augmentation=augmentation).experiment, records)
    assert len(shown) == 8
    split = records.manifest.splits["train"]
    examples = [one for shard in split.shards for one in first_examples(records, shard, 1 << 20)][:8]
    draws = epoch_draws(0, 0, split.records)[:8]
    images = np.stack([image for image, _ in examples]).astype(np.float32)
    expected = augment(images, draws, augmentation, np)
    for sample, (image, label), seen in zip(shown, examples, expected, strict=True):
        assert sample.label == records.manifest.classes[label]
        np.testing.assert_array_equal(pixels_of(sample.image), image[:, :, 0])
        np.testing.assert_allclose(pixels_of(sample.seen), seen[:, :, 0], atol=0.51)


def test_mixtures_name_both_classes(study, records) -> None:
    mixed = with_training(study, augmentation=Augmentation(mixup=1.0)).experiment
    assert all("%" in sample.label and ", " in sample.label for sample in samples(mixed, records))


def test_a_shard_that_is_gone_is_told(study, records, tmp_path) -> None:
    moved = records.model_copy(update={"location": str(tmp_path / "gone")})
    told = samples(with_training(study, augmentation=Augmentation(flip=True)).experiment, moved)
    assert isinstance(told, str)
    assert "gone" in told
