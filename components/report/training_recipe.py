"""How all arms were trained: the recipe, images as the network saw them, the best epoch and the last."""

import base64
import io
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from optduel.components.augmentation import augment, epoch_draws, epoch_shares, mixed
from optduel.components.core import DataError, StorageError
from optduel.components.records import Records, first_examples
from optduel.components.report.numbers import decimal, percentage
from optduel.components.results import Row, Trial, epochs_of
from optduel.components.settings import EarlyStopping, Experiment

SAMPLES = 8
"""Images that are shown as the network saw them."""

_EXAMPLE_BYTES = 1 << 12
"""Of a record beside its pixels, at most."""


@dataclass(frozen=True)
class Sample:
    """One image of the records and what augmentation made of it, each a PNG file as a data URI."""

    label: str
    image: str
    seen: str


@dataclass(frozen=True)
class BestAndLast:
    """Medians over the seeds of one arm, on the validation split."""

    arm: str
    best_epoch: str
    best_accuracy: str
    best_cross_entropy: str
    last_epoch: str
    last_accuracy: str
    last_cross_entropy: str


def recipe_rows(experiment: Experiment) -> list[tuple[str, str]]:
    """What is done to images, labels, gradients and weights: name and value, of all that is on."""
    training = experiment.training
    stopping = training.early_stopping
    rows = [
        ("augmentation", training.augmentation.text if training.augmentation else ""),
        ("label smoothing", f"{training.label_smoothing:g}" if training.label_smoothing else ""),
        ("gradients", f"clipped to a norm of {training.clip_norm:g}" if training.clip_norm else ""),
        (
            "weights",
            f"moving average, {training.moving_average:g} a step, validated and exported"
            if training.moving_average
            else "",
        ),
        ("early stopping", _stopping_text(stopping, training.epochs) if stopping else ""),
    ]
    return [row for row in rows if row[1]]


def _stopping_text(rule: EarlyStopping, epochs: int) -> str:
    least = f" by more than {rule.min_change:g}" if rule.min_change else ""
    return (
        f"after {rule.patience} epoch{'' if rule.patience == 1 else 's'} in which validation "
        f"{rule.metric.replace('_', '-')} has not improved{least}, at the latest after {epochs}; the best "
        "epoch's weights are tested"
    )


def best_and_last(experiment: Experiment, arms: Mapping[str, Sequence[Trial]]) -> list[BestAndLast]:
    """Validation at the best and at the last epoch, for each arm that finished a trial.

    Best by the rule of early stopping, or by cross-entropy where there is none.
    """
    training = experiment.training
    rule = training.early_stopping or EarlyStopping(patience=training.epochs)
    rows = []
    for arm, trials in arms.items():
        histories = [epochs_of(trial.history, "validation") for trial in trials]
        if not all(histories) or not histories:
            continue
        best, last = [_best(history, rule) for history in histories], [history[-1] for history in histories]
        rows.append(BestAndLast(arm, *_medians(best), *_medians(last)))
    return rows


def _best(history: Sequence[Row], rule: EarlyStopping) -> Row:
    found = history[0]
    for row in history[1:]:
        if rule.is_better(getattr(row, rule.metric), getattr(found, rule.metric)):
            found = row
    return found


def _medians(rows: Sequence[Row]) -> tuple[str, str, str]:
    median = statistics.median
    return (
        f"{median(row.epoch for row in rows):g}",
        percentage(median(row.accuracy for row in rows), 2),
        decimal(median(row.cross_entropy for row in rows), 4),
    )


def samples(experiment: Experiment, records: Records) -> list[Sample] | str:
    """Eight training images beside what the network saw of them in the first epoch of the first seed.

    Returns:
        The samples, none without augmentation; or why they cannot be shown.
    """
    augmentation = experiment.training.augmentation
    if augmentation is None:
        return []
    split = records.manifest.splits["train"]
    most = SAMPLES * (int(np.prod(records.manifest.image_shape)) + _EXAMPLE_BYTES)
    try:
        found = [example for shard in split.shards for example in first_examples(records, shard, most)][
            :SAMPLES
        ]
    except (DataError, StorageError) as error:
        return str(error)
    if not found:
        return "the manifest names no shard of the training split"
    seed, classes = experiment.study.seeds[0], records.manifest.classes
    originals = np.stack([pixels for pixels, _ in found])
    labels = [classes[label] for _, label in found]
    draws = epoch_draws(seed, 0, split.records)[: len(found)]
    seen = augment(originals.astype(np.float32), draws, augmentation, np)
    if augmentation.mixup:
        # In training the partner is drawn, too, from the records of the same shard.
        shares = epoch_shares(seed, 0, split.records, augmentation.mixup)[: len(found)]
        seen = mixed(seen, np.roll(seen, 1, axis=0), shares, np)
        partners = labels[-1:] + labels[:-1]
        labels = [
            f"{share:.0%} {label}, {1 - share:.0%} {partner}"
            for share, label, partner in zip(shares, labels, partners, strict=True)
        ]
    return [
        Sample(label, _png(image), _png(np.rint(changed).astype(np.uint8)))
        for label, image, changed in zip(labels, originals, seen, strict=True)
    ]


def _png(pixels: np.ndarray) -> str:
    encoded = io.BytesIO()
    Image.fromarray(pixels if pixels.shape[2] == 3 else pixels[:, :, 0]).save(encoded, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(encoded.getvalue()).decode()
