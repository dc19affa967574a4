"""Recipes: what cannot work is one message that names the field, and what is on can be read."""

from typing import Any

import pytest
import yaml

from optduel.components.core import ExperimentError
from optduel.components.settings import EarlyStopping, Experiment, parse_experiment


def build(authored: dict[str, Any], *assignments: str) -> Experiment:
    return parse_experiment(yaml.safe_dump(authored), "mine.yaml", assignments)


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("training.augmentation.crop_padding=32", "augmentation.crop_padding = 32: must be less than a side"),
        ("training.augmentation.cutout=32", "augmentation.cutout = 32: the square must be smaller than"),
        (
            "training.augmentation={random_resized_crop: {scale: [0.001, 1]}}",
            "random_resized_crop.scale = [0.001, 1]: the smallest part of images of 32 x 48 pixels",
        ),
        (
            "training.augmentation.random_resized_crop={}",
            "crop_padding and random_resized_crop are set: keep one",
        ),
        (
            "training.augmentation={random_resized_crop: {ratio: [2, 1]}}",
            "ratio = [2, 1]: the smaller number comes first",
        ),
        ("data.channels=1", "training.augmentation.saturation = 0.125: grey images have none"),
        ("training.augmentation.mixup=0", "training.augmentation.mixup = 0"),
        ("training.clip_norm=0", "training.clip_norm = 0"),
        ("training.moving_average=1", "training.moving_average = 1"),
        ("training.label_smoothing=1", "training.label_smoothing = 1"),
        ("training.early_stopping.patience=0", "training.early_stopping.patience = 0"),
        ("model={name: resnet, depth: 18}", "depth = 18: must be 6 n + 2 in the form cifar"),
        ("model={name: resnet, form: imagenet, depth: 20}", "depth = 20: must be 18, 34 or 50"),
    ],
)
def test_what_cannot_work_is_named(authored: dict[str, Any], assignment: str, message: str) -> None:
    with pytest.raises(ExperimentError) as raised:
        build(authored, assignment)
    first, *lines = str(raised.value).splitlines()
    assert first == "mine.yaml: 1 problem"
    assert len(lines) == 1
    assert message in lines[0]


def test_all_misfits_are_told_at_once(authored: dict[str, Any]) -> None:
    with pytest.raises(ExperimentError, match=r"(?s)crop_padding = 40.*\n.*cutout = 50"):
        build(authored, "training.augmentation.crop_padding=40", "training.augmentation.cutout=50")


def test_an_augmentation_is_told_in_words(authored: dict[str, Any]) -> None:
    augmentation = build(authored).training.augmentation
    assert augmentation
    assert augmentation.text == (
        "horizontal flip, crop after padding by 4 px, brightness ±12%, contrast ±12%, saturation ±12%, "
        "cutout of 8 px, mixup with α = 0.25"
    )


@pytest.mark.parametrize(
    ("metric", "value", "best", "expected"),
    [
        ("accuracy", 0.92, 0.9, True),
        ("accuracy", 0.9, 0.9, False),
        ("accuracy", 0.905, 0.9, False),
        ("cross_entropy", 0.88, 0.9, True),
        ("cross_entropy", 0.895, 0.9, False),
    ],
)
def test_better_is_by_more_than_the_least_change(
    metric: Any, value: float, best: float, expected: bool
) -> None:
    rule = EarlyStopping(metric=metric, patience=1, min_change=0.01)
    assert rule.is_better(value, best) == expected
