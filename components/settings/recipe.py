"""What is done to images and labels while training, and when training ends: the same for all arms.

How pixels change: `optduel.components.augmentation`.
"""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from optduel.components.settings.section import (
    Fraction,
    NonNegativeFloat,
    PositiveFloat,
    PositiveInt,
    Section,
)

_Share = Annotated[float, Field(gt=0, le=1)]

_LEAST_SIDE = 2
"""Pixels of the smallest part of an image that is worth enlarging."""


class RandomResizedCrop(Section):
    """A random part of the image, resized to the whole: Szegedy et al. 2015 (arXiv 1409.4842), section 6.

    Attributes:
        scale: smallest and largest area of the part, as a share of the image's.
        ratio: narrowest and widest part, width / height relative to the image's; drawn on a log scale.
    """

    scale: tuple[_Share, _Share] = (0.25, 1.0)
    ratio: tuple[PositiveFloat, PositiveFloat] = (0.75, 4 / 3)

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        for name in ("scale", "ratio"):
            low, high = getattr(self, name)
            if low > high:
                raise ValueError(f"{name} = [{low:g}, {high:g}]: the smaller number comes first")
        return self


class Augmentation(Section):
    """Random changes of training images, drawn from (seed, epoch, position); evaluation sees none.

    They are made in this order, whatever the order here.

    Attributes:
        flip: every other image, on average, is mirrored left to right.
        crop_padding: pixels of black around the image, of which a part of the image's size is taken.
        random_resized_crop: a part of the image, resized to the whole.
        brightness: pixels are multiplied by 1 - brightness to 1 + brightness.
        contrast: distances from the image's mean grey are multiplied by 1 - contrast to 1 + contrast.
        saturation: distances from each pixel's grey are multiplied by 1 - saturation to 1 + saturation.
        cutout: side, in pixels, of a black square around a random pixel (arXiv 1708.04552).
        mixup: alpha of the Beta distribution from which an image's share in its mixture with another one is
            drawn; labels are mixed alike (arXiv 1710.09412).
    """

    flip: bool = False
    crop_padding: PositiveInt | None = None
    random_resized_crop: RandomResizedCrop | None = None
    brightness: Fraction = 0
    contrast: Fraction = 0
    saturation: Fraction = 0
    cutout: PositiveInt | None = None
    mixup: PositiveFloat | None = None

    @model_validator(mode="after")
    def _one_crop(self) -> Self:
        if self.crop_padding and self.random_resized_crop:
            raise ValueError("crop_padding and random_resized_crop are set: keep one, each moves the image")
        return self

    @property
    def text(self) -> str:
        """What is on, for people."""
        crop = self.random_resized_crop
        parts = [
            "horizontal flip" if self.flip else "",
            f"crop after padding by {self.crop_padding} px" if self.crop_padding else "",
            f"random resized crop of {crop.scale[0]:.0%} to {crop.scale[1]:.0%} of the area" if crop else "",
            *(
                f"{name} ±{getattr(self, name):.0%}"
                for name in ("brightness", "contrast", "saturation")
                if getattr(self, name)
            ),
            f"cutout of {self.cutout} px" if self.cutout else "",
            f"mixup with α = {self.mixup:g}" if self.mixup else "",
        ]
        return ", ".join(filter(None, parts))

    def misfits(self, height: int, width: int, channels: int) -> list[str]:
        """What images of this size cannot be changed by: "field = value: rule", none where all fits."""
        size, side = f"{height} x {width} pixels", min(height, width)
        found = []
        if self.crop_padding and self.crop_padding >= side:
            found.append(f"crop_padding = {self.crop_padding}: must be less than a side of images of {size}")
        if self.cutout and self.cutout >= side:
            found.append(f"cutout = {self.cutout}: the square must be smaller than images of {size}")
        if crop := self.random_resized_crop:
            widest = max(crop.ratio[1], 1 / crop.ratio[0])
            if side * (crop.scale[0] / widest) ** 0.5 < _LEAST_SIDE:
                found.append(
                    f"random_resized_crop.scale = [{crop.scale[0]:g}, {crop.scale[1]:g}]: the smallest "
                    f"part of images of {size} has a side of less than {_LEAST_SIDE} pixels"
                )
        if self.saturation and channels == 1:
            found.append(f"saturation = {self.saturation:g}: grey images have none; leave it out")
        return found


class EarlyStopping(Section):
    """Ends a trial that no longer improves on the validation split, and keeps its best epoch's weights.

    Attributes:
        metric: what has to improve, on the validation split.
        patience: epochs without improvement after which the trial ends; with as many as `training.epochs` it
            never ends early, and only the best weights are kept.
        min_change: less than this is no improvement.
    """

    metric: Literal["accuracy", "cross_entropy"] = "cross_entropy"
    patience: PositiveInt
    min_change: NonNegativeFloat = 0

    def is_better(self, value: float, best: float) -> bool:
        """Whether `value` improves on `best`, both of the metric."""
        gain = value - best if self.metric == "accuracy" else best - value
        return gain > self.min_change
