"""Random changes of training images: what is drawn for each example, and what it does to its pixels."""

from optduel.components.augmentation.chance import WIDTH, epoch_draws, epoch_shares
from optduel.components.augmentation.pixels import augment, mixed

__all__ = ["WIDTH", "augment", "epoch_draws", "epoch_shares", "mixed"]
