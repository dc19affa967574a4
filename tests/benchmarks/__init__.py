"""Benchmarks: optduel, Keras, PyTorch and the tutorial's script side by side on this machine."""
