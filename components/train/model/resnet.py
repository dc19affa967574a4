"""Residual networks as published: He et al. 2015, Deep Residual Learning (arXiv 1512.03385).

Strides, shortcuts and numbers of blocks are the paper's, section 4.2 and table 1: a block that halves the
sides does so in its first convolution, bottlenecks too. Weights start as in arXiv 1502.01852, normal with
variance 2 / fan-in; the epsilon of the normalization is that of the authors' Torch code.
"""

from typing import Any

import keras

from optduel.components.settings import ResnetModel
from optduel.components.train.model.layer_sets import KerasLayers, scaled

_BLOCKS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3)}
"""Of each stage, in the form for ImageNet."""

_EXPANSION = 4
"""Channels that a bottleneck gives, for each that it works on."""

_EPSILON = 1e-5


def residual_network(model: ResnetModel, pixels: Any, layers: KerasLayers) -> Any:
    """From pixels, 0 to 255, [n, height, width, channels] to features [n, channels of the last stage]."""
    images = scaled(pixels)
    make = _Blocks(layers)
    if model.form == "cifar":
        features = make.convolution(images, 16, 3, 1)
        for stage, filters in enumerate((16, 32, 64)):
            for block in range((model.depth - 2) // 6):
                strides = 2 if stage and not block else 1
                shortcut = layers.plain_shortcut(2)(features) if strides == 2 else features
                features = make.basic(features, shortcut, filters, strides)
    else:
        features = make.convolution(images, 64, 7, 2)
        features = layers.max_pooling(pool_size=3, strides=2, padding="valid")(_framed(features, 3))
        for stage, blocks in enumerate(_BLOCKS[model.depth]):
            for block in range(blocks):
                features = make.projected(
                    features, 64 * 2**stage, 2 if stage and not block else 1, model.depth
                )
    return keras.layers.GlobalAveragePooling2D()(features)


class _Blocks:
    def __init__(self, layers: KerasLayers) -> None:
        self._layers = layers

    def convolution(self, features: Any, filters: int, size: int, strides: int, is_last: bool = False) -> Any:
        """Convolution, normalization and, but for the last of a block, ReLU."""
        options: dict[str, Any] = {
            "kernel_size": size,
            "kernel_initializer": keras.initializers.VarianceScaling(
                2.0, mode="fan_in", distribution="untruncated_normal"
            ),
        }
        if strides > 1:
            # Framed alike on all sides; "same" would frame even sizes on one side only.
            features = _framed(features, size)
            options |= {"strides": strides, "padding": "valid"}
        features = self._layers.normalization(_EPSILON)(self._layers.conv(filters, **options)(features))
        return features if is_last else keras.layers.ReLU()(features)

    def basic(self, features: Any, shortcut: Any, filters: int, strides: int) -> Any:
        """Two convolutions 3 x 3."""
        features = self.convolution(features, filters, 3, strides)
        return _joined(self.convolution(features, filters, 3, 1, is_last=True), shortcut)

    def projected(self, features: Any, filters: int, strides: int, depth: int) -> Any:
        """A block of the form for ImageNet, with a projection where its shape changes: option B."""
        is_bottleneck = depth >= 50
        given = filters * _EXPANSION if is_bottleneck else filters
        shortcut = features
        if strides > 1 or features.shape[-1] != given:
            shortcut = self.convolution(features, given, 1, strides, is_last=True)
        if not is_bottleneck:
            return self.basic(features, shortcut, filters, strides)
        features = self.convolution(features, filters, 1, strides)
        features = self.convolution(features, filters, 3, 1)
        return _joined(self.convolution(features, given, 1, 1, is_last=True), shortcut)


def _joined(features: Any, shortcut: Any) -> Any:
    return keras.layers.ReLU()(keras.layers.Add()([features, shortcut]))


def _framed(features: Any, size: int) -> Any:
    """With a frame of zeros so wide that a window of `size` stands on every pixel."""
    return keras.layers.ZeroPadding2D(size // 2)(features) if size > 1 else features
