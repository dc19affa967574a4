"""Simulated studies, whose truth is known: how often an interval covers it, a test is wrong, or finds it."""

import sys
from dataclasses import dataclass

import numpy as np
import scipy.special
from numpy.typing import NDArray

from optduel.components.results import Predictions


@dataclass(frozen=True)
class Mix:
    """Standard deviations of what makes a prediction right, on a normal scale whose own noise is 1.

    Attributes:
        seed: of a seed for both arms.
        seed_arm: of a seed for one arm.
        image: of an image for both arms.
        image_arm: of an image for one arm.
    """

    seed: float
    seed_arm: float
    image: float
    image_arm: float

    @property
    def total(self) -> float:
        """Standard deviation of all of it."""
        return float(np.sqrt(1 + self.seed**2 + self.seed_arm**2 + self.image**2 + self.image_arm**2))


MIXES = {
    "seeds": Mix(seed=0.1, seed_arm=0.15, image=1.0, image_arm=0.1),
    "both": Mix(seed=0.1, seed_arm=0.1, image=1.5, image_arm=0.5),
    "images": Mix(seed=0.05, seed_arm=0.03, image=1.5, image_arm=1.0),
}


def table_of_differences(
    generator: np.random.Generator, mix: Mix, seeds: int, images: int, accuracies: tuple[float, float]
) -> NDArray[np.float64]:
    """Right (1) or wrong (0) of the second arm minus the first, on seeds and images that are drawn.

    Returns:
        float64 [seeds, images]; its expectation is the difference of `accuracies`.
    """
    seed, image = generator.normal(size=(seeds, 1)) * mix.seed, generator.normal(size=images) * mix.image
    right = []
    for accuracy in accuracies:
        score = (
            scipy.special.ndtri(accuracy) * mix.total
            + seed
            + image
            + generator.normal(size=(seeds, 1)) * mix.seed_arm
            + generator.normal(size=images) * mix.image_arm
            + generator.normal(size=(seeds, images))
        )
        right.append(score > 0)
    return right[1].astype(np.float64) - right[0]


def predictions_of_study(
    generator: np.random.Generator, seeds: int, images: int, gap: float, even: bool = False
) -> dict[tuple[str, int], Predictions]:
    """Two arms on three unbalanced classes, with effects of seeds and images on every logit.

    Args:
        gap: by which the true class's logit of the second arm is higher.
        even: whether seeds are spread evenly over their distribution instead of drawn, to find the truth.
    """
    drawn = scipy.special.ndtri((np.arange(seeds) + 0.5) / seeds) if even else None
    labels = generator.choice(3, images, p=[0.6, 0.3, 0.1])
    truth = labels[:, None] == np.arange(3)
    shared = generator.normal(size=(images, 3))
    every = {}
    for arm, skill in (("a", 2.0), ("b", 2.0 + gap)):
        own = 0.5 * generator.normal(size=(images, 3))
        luck = generator.normal(size=seeds) if drawn is None else drawn
        for number in range(seeds):
            logits = shared + own + generator.normal(size=(images, 3))
            logits += truth * (skill + 0.1 * luck[number])
            every[arm, number] = Predictions(
                arm=arm,
                seed=number,
                split="test",
                model_sha256=f"{arm}-{number}",
                classes=("x", "y", "z"),
                examples=tuple(map(str, range(images))),
                labels=labels,
                probabilities=scipy.special.softmax(logits, axis=1),
            )
    return every


def told(counts: str) -> None:
    """Leaves what a simulation counted for `pytest -rP`."""
    sys.stdout.write(f"{counts}\n")
