"""A Keras model's file to start from: brought here, and looked at without running or loading any of it."""

from optduel.components.pretrained.keras_file import check_start, verified_copy

__all__ = ["check_start", "verified_copy"]
