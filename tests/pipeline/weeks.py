"""Weeks of a folder of images, and the retrainings that a schedule makes of them."""

import contextlib
import io
import json
import random
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from optduel.components.champions import current
from optduel.components.results import read_notices
from optduel.pipeline.cli.command_line import main

DIGITS = load_digits()
CLASSES = (0, 1, 2)
GATE = "{smallest_test: 20, margin: 0.1, class_floor: 0.3}"


@dataclass
class Story:
    """A folder of images, a root, and what was said of every run.

    Attributes:
        options: of the command that runs, beside its settings.
    """

    photos: Path
    root: str
    options: tuple[str, ...] = ()
    weeks: dict[str, dict[str, Any]] = field(default_factory=dict)

    def deliver(self, start: int, end: int, shuffled: bool = False) -> None:
        """Adds digits to the folder; if they are poisoned, replaces all, with labels at random."""
        dice = random.Random(0)
        if shuffled:
            shutil.rmtree(self.photos)
        for number in range(start, end):
            label = int(DIGITS.target[number])
            if label in CLASSES:
                folder = self.photos / str(dice.choice(CLASSES) if shuffled else label)
                folder.mkdir(parents=True, exist_ok=True)
                pixels = np.round(DIGITS.images[number] * 255 / 16).astype(np.uint8)
                Image.fromarray(pixels).save(folder / f"{number}.png")

    def run(self, week: str, webhook: str = "") -> tuple[int, str]:
        """Runs the retraining as a schedule does; returns its exit code and what it told."""
        source = {"kind": "folder", "path": str(self.photos)}
        settings = [
            f"data.source={json.dumps(source)}",
            "data.image_size=[8, 8]",
            "data.channels=1",
            "data.split={train: 0.6, validation: 0.2, test: 0.2}",
            "data.shards=1",
            "model={name: linear}",
            "tuning=null",
            "training.epochs=12",
            "training.global_batch_size=32",
            f"retraining={{champion: weekly, arm: adamw, seeds: [0, 1], gate: {GATE}}}",
        ]
        arguments = [word for setting in settings for word in ("--set", setting)]
        out, err = io.StringIO(), io.StringIO()
        with (
            pytest.MonkeyPatch.context() as patch,
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
        ):
            # The same code every week, whatever is committed meanwhile.
            patch.setenv("OPTDUEL_CODE_VERSION", "1")
            patch.setenv("OPTDUEL_ALERT_WEBHOOKS", webhook)
            patch.setenv("OPTDUEL_STAGING", str(self.photos.parent / "staging"))
            code = main(["run", "digits", "--root", self.root, *self.options, *arguments, "--json"])
        if out.getvalue():
            self.weeks[week] = json.loads(out.getvalue())
        return code, err.getvalue()

    def champion(self) -> tuple[int, str]:
        """Number of the last change, and the run of the model in use."""
        held = current(self.root, "weekly")
        assert held is not None
        return held.champion.number, held.champion.candidate.run

    def events(self, week: str) -> list[str]:
        """What is told of a week."""
        return [notice.event for notice in read_notices(self.weeks[week]["run"])]
