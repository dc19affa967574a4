"""The networks that an experiment can name. What they compute: `components/train/model/models.py`."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from optduel.components.settings.section import Fraction, Place, PositiveFloat, PositiveInt, Section


class TutorialCnnModel(Section):
    """The tutorial's: two Conv2D(64, 3 x 3, ReLU) with max pooling, Dense(128, ReLU), Dense(classes)."""

    name: Literal["tutorial_cnn"] = "tutorial_cnn"


class CnnModel(Section):
    """Convolution blocks with batch normalization, global average pooling and dropout.

    Attributes:
        filters: output channels of each block; every block halves height and width.
        dropout: fraction of the pooled features that is dropped in training.
    """

    name: Literal["cnn"] = "cnn"
    filters: Annotated[tuple[PositiveInt, ...], Field(min_length=1, max_length=6)] = (32, 64, 128)
    dropout: Fraction = 0.2


class LinearModel(Section):
    """Softmax regression on the pixels: the floor that a network has to beat."""

    name: Literal["linear"] = "linear"


class ResnetModel(Section):
    """Residual networks as published: He et al. 2015 (arXiv 1512.03385).

    Attributes:
        form: "cifar" is that of its section 4.2, for small images: 16, 32 and 64 channels, shortcuts without
            parameters. "imagenet" is that of table 1: 64 to 512 channels (to 2048 with depth 50), a quarter
            of each side left before the first block, shortcuts with projections.
        depth: layers with weights, in the form "cifar" 6 n + 2 (8, 14, 20, 32, 44, 56, 110), in the form
            "imagenet" 18, 34 or 50.
    """

    name: Literal["resnet"] = "resnet"
    form: Literal["cifar", "imagenet"] = "cifar"
    depth: Annotated[int, Field(ge=8, le=1202)] = 20

    @model_validator(mode="after")
    def _published_depth(self) -> Self:
        if self.form == "cifar" and self.depth % 6 != 2:
            raise ValueError(
                f"depth = {self.depth}: must be 6 n + 2 in the form cifar: 8, 14, 20, 26, 32, ..."
            )
        if self.form == "imagenet" and self.depth not in (18, 34, 50):
            raise ValueError(f"depth = {self.depth}: must be 18, 34 or 50 in the form imagenet")
        return self


class PretrainedModel(Section):
    """Fine-tuning: a Keras model up to its head, and a new head, which alone is drawn from the seed.

    Attributes:
        start: a file in Keras' format (.keras), a path or a URI: one that optduel has trained, or one saved
            from keras.applications.
        sha256: of the file, in hexadecimal: other weights are another experiment.
        preprocessing: what the model takes of pixels from 0 to 255, by the names of
            keras.applications.imagenet_utils: "tf" -1 to 1, "torch" normalized by ImageNet's mean and
            deviation, "caffe" BGR without ImageNet's mean; "none" where it normalizes by itself, as optduel's
            models and EfficientNet do.
        freeze: "body" trains the head only; a layer's name keeps that layer and all before it as they are.
            Statistics of frozen normalization stay, too.
        dropout: fraction of the features that is dropped before the head in training.
        head_rate: the head's learning rate, as a multiple of the arm's.
    """

    name: Literal["pretrained"] = "pretrained"
    start: Place
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    preprocessing: Literal["none", "tf", "torch", "caffe"] = "none"
    freeze: str | None = None
    dropout: Fraction = 0
    head_rate: PositiveFloat = 1


Model = Annotated[
    TutorialCnnModel | CnnModel | LinearModel | ResnetModel | PretrainedModel, Field(discriminator="name")
]
