"""Measures the champion anew: on today's test images, but for those that it was trained on."""

from pathlib import Path

import numpy as np

from optduel.components.champions import Measured, current, images_file, read_images, write_measured
from optduel.components.core import DataError, say
from optduel.components.evaluate.evaluate import predict
from optduel.components.evaluate.model import load_model
from optduel.components.records import Records, load_records
from optduel.components.results import Predictions


def measure_champion(records_file: Path, name: str, root: str, run: str) -> Measured:
    """Has the champion predict what both models are judged by, and keeps that in the run's folder.

    Images that it was trained on say nothing of it, and images of a class that it does not know only that it
    does not; neither are left to judge by.

    Args:
        records_file: the Records document.
        name: the champion's.
        root: of datasets, runs and champions, a path or a URI.
        run: the run's name, unique below root.

    Raises:
        DataError: the champion's model was changed or does not fit the records, or what says which images it
            was trained on is gone.
        StorageError: a place cannot be read or written.
    """
    records = load_records(records_file)
    split = records.manifest.splits[records.manifest.final_split]
    held = current(root, name)
    if held is None:
        measured = Measured(number=None, test_images=split.records, judged_images=split.records)
        write_measured(root, run, measured, None)
        return measured
    champion = held.champion.candidate
    model = load_model(champion.model, champion.model_sha256, records.manifest, len(champion.classes))
    probabilities, labels, examples = predict(model, records, records.manifest.final_split)
    seen = _seen(records, name, root, champion.data_fingerprint)
    indices = {class_name: index for index, class_name in enumerate(champion.classes)}
    known = np.array([indices.get(class_name, -1) for class_name in records.manifest.classes])[labels]
    left = np.flatnonzero(~seen & (known >= 0))
    measured = Measured(
        number=held.champion.number,
        model_sha256=champion.model_sha256,
        run=champion.run,
        classes=champion.classes,
        test_images=split.records,
        seen_images=int(np.count_nonzero(seen)),
        judged_images=len(left),
    )
    predictions = Predictions(
        arm=champion.arm.name,
        seed=champion.seed,
        split=records.manifest.final_split,
        model_sha256=champion.model_sha256,
        classes=champion.classes,
        examples=tuple(examples[position] for position in left),
        labels=known[left],
        probabilities=probabilities[left],
    )
    write_measured(root, run, measured, predictions if len(left) else None)
    say(
        f"champion {name}: {len(left)} of {split.records} test images are left to judge by, it was "
        f"trained on {measured.seen_images}"
    )
    return measured


def _seen(records: Records, name: str, root: str, data_fingerprint: str) -> np.ndarray:
    """Whether the champion was trained on each test image, bool [n], in the order of the records."""
    places = [images_file(root, name, one) for one in (data_fingerprint, records.manifest.fingerprint)]
    trained_on, today = [read_images(place) for place in places]
    if trained_on is None or today is None:
        gone = places[0 if trained_on is None else 1]
        raise DataError(
            f"{gone}: is gone: it says which images a data set holds; restore it, or decide again"
        )
    training = set(trained_on.of_split("train"))
    test = today.of_split(records.manifest.final_split)
    return np.array([image in training for image in test], dtype=bool)
