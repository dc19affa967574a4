"""What every process that computes with TensorFlow sets, so that no home or environment changes a number."""

from optduel.components.numerics.libraries import library_environment, set_up_libraries, taken_out

__all__ = ["library_environment", "set_up_libraries", "taken_out"]
