"""PyTorch's training step, of the tutorial's model or a residual network, on images in memory, channels last.

Runs in an environment that has PyTorch and NumPy only. The L2 term goes through the optimizer's
weight_decay, which gives the same gradient without computing the penalty: in PyTorch's favour.
"""

import contextlib
import itertools
import os
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tests.benchmarks.contestant import UnavailableError
from tests.benchmarks.rates import median_after_first

BATCH_SIZE = 32
L2 = 1e-3


def run(
    seed: int, folder: Path, arrays: str, epochs: int, precision: str, is_compiled: bool, depth: int = 0
) -> dict[str, Any]:
    """Trains on whole batches.

    Args:
        precision: "float32" or "mixed_bfloat16", that is autocast.
        depth: of a residual network in its form for CIFAR; 0 for the tutorial's.
    """
    if is_compiled and not shutil.which("g++"):
        raise UnavailableError("torch.compile needs g++, which this machine lacks")
    torch.manual_seed(seed)
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    images = torch.from_numpy(np.load(Path(arrays) / "train-images.npy"))
    labels = torch.from_numpy(np.load(Path(arrays) / "train-labels.npy").astype(np.int64))
    model = _residual(depth) if depth else _model(images.shape[1], images.shape[2])
    model = model.to(memory_format=torch.channels_last)
    kernels = [parameter for name, parameter in model.named_parameters() if name.endswith("weight")]
    biases = [parameter for name, parameter in model.named_parameters() if name.endswith("bias")]
    groups = [{"params": kernels, "weight_decay": 2 * L2}, {"params": biases}]
    optimizer = torch.optim.SGD(groups, lr=1e-3, momentum=0.9)
    forward = torch.compile(model) if is_compiled else model
    cross_entropy = torch.nn.CrossEntropyLoss()
    is_mixed = precision == "mixed_bfloat16"
    steps = len(images) // BATCH_SIZE
    rates = []
    for _ in range(epochs):
        order = torch.randperm(len(images))
        started = time.perf_counter()
        for step in range(steps):
            rows = order[step * BATCH_SIZE : (step + 1) * BATCH_SIZE]
            # Stored as NHWC, so that the permuted view is channels last already.
            pixels = images[rows].permute(0, 3, 1, 2).float() / 255
            mixed = torch.autocast("cpu", torch.bfloat16) if is_mixed else contextlib.nullcontext()
            with mixed:
                loss = cross_entropy(forward(pixels).float(), labels[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        rates.append(steps * BATCH_SIZE / (time.perf_counter() - started))
    return {
        "epoch_rates": rates,
        "images_per_second": median_after_first(rates),
        "torch": torch.__version__,
        "last_loss": float(loss),
    }


def _model(height: int, width: int) -> torch.nn.Sequential:
    return torch.nn.Sequential(
        torch.nn.Conv2d(3, 64, 3, padding=1),
        torch.nn.ReLU(),
        torch.nn.MaxPool2d(2),
        torch.nn.Conv2d(64, 64, 3, padding=1),
        torch.nn.ReLU(),
        torch.nn.MaxPool2d(2),
        torch.nn.Flatten(),
        torch.nn.Linear(64 * (height // 4) * (width // 4), 128),
        torch.nn.ReLU(),
        torch.nn.Linear(128, 5),
    )


class _Block(torch.nn.Module):
    """Two convolutions and a shortcut without parameters: option A of arXiv 1512.03385."""

    def __init__(self, given: int, filters: int) -> None:
        super().__init__()
        self.strides, self.more = filters // given, filters - given
        self.first = torch.nn.Conv2d(given, filters, 3, self.strides, padding=1, bias=False)
        self.second = torch.nn.Conv2d(filters, filters, 3, padding=1, bias=False)
        self.norms = torch.nn.ModuleList(torch.nn.BatchNorm2d(filters) for _ in range(2))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        shortcut = features[:, :, :: self.strides, :: self.strides]
        shortcut = torch.nn.functional.pad(shortcut, (0, 0, 0, 0, 0, self.more))
        features = torch.relu(self.norms[0](self.first(features)))
        return torch.relu(self.norms[1](self.second(features)) + shortcut)


def _residual(depth: int) -> torch.nn.Sequential:
    widths = [16, *(filters for filters in (16, 32, 64) for _ in range((depth - 2) // 6))]
    return torch.nn.Sequential(
        torch.nn.Conv2d(3, 16, 3, padding=1, bias=False),
        torch.nn.BatchNorm2d(16),
        torch.nn.ReLU(),
        *(_Block(*pair) for pair in itertools.pairwise(widths)),
        torch.nn.AdaptiveAvgPool2d(1),
        torch.nn.Flatten(),
        torch.nn.Linear(64, 5),
    )
