"""Where a run's models come from, in one file that needs no metadata store: `lineage.json`."""

import os
from collections.abc import Sequence
from typing import Literal

from optduel.components.core import DataError, ExperimentError
from optduel.components.records import Records
from optduel.components.results.documents import Trial
from optduel.components.results.lineage import Environment, code_version, environment, now
from optduel.components.results.metering import TaskCost
from optduel.components.settings import Experiment, Section, decode
from optduel.components.storage import join, publish, read

LINEAGE_NAME = "lineage.json"
"""In the folder of a run, and beside every model that was a champion."""

IMAGE_VARIABLE = "OPTDUEL_IMAGE"
"""Names the container image that a task runs in, where it runs in one."""


class TrainedModel(Section):
    """A model of the run.

    Attributes:
        trial: fingerprint of all that determines its numbers.
        place: where its file was when it was evaluated, a path or a URI.
    """

    arm: str
    seed: int
    trial: str
    place: str
    model_sha256: str
    trained_with: Environment


class Parent(Section):
    """A model that this run's were judged against.

    Attributes:
        number: of the change of the champion that it stood at.
        folder: where it is kept, with a lineage of its own.
    """

    champion: str
    number: int
    run: str
    model_sha256: str
    folder: str


class Lineage(Section):
    """All that is needed to make a run's models again, and to find what they were made from.

    Attributes:
        records: where the records are, a path or a URI.
        source: of the images, in one line.
        images: records of each split.
        image: the container image, by the reference that the deployment names.
        environment: of the process that wrote this.
        parents: the champion that was in use; empty where there was none.
        costs: of the tasks that had ended.
    """

    schema_version: Literal[1] = 1
    run: str
    time: str
    experiment: Experiment
    fingerprint: str
    records: str
    data_fingerprint: str
    source: str
    images: dict[str, int]
    classes: tuple[str, ...]
    code_version: str
    image: str | None
    environment: Environment
    models: tuple[TrainedModel, ...]
    parents: tuple[Parent, ...] = ()
    costs: tuple[TaskCost, ...] = ()


def lineage_of(
    run: str,
    experiment: Experiment,
    records: Records,
    trials: Sequence[Trial],
    costs: Sequence[TaskCost],
    parents: Sequence[Parent] = (),
) -> Lineage:
    """The lineage of a run of this code, in this environment."""
    manifest = records.manifest
    return Lineage(
        run=run,
        time=now(),
        experiment=experiment,
        fingerprint=experiment.fingerprint,
        records=records.location,
        data_fingerprint=manifest.fingerprint,
        source=manifest.source,
        images={name: split.records for name, split in manifest.splits.items()},
        classes=manifest.classes,
        code_version=code_version(),
        image=os.environ.get(IMAGE_VARIABLE),
        environment=environment(),
        models=tuple(
            TrainedModel(
                arm=trial.training.arm,
                seed=trial.training.seed,
                trial=trial.training.fingerprint,
                place=trial.model,
                model_sha256=trial.training.model_sha256,
                trained_with=trial.training.environment,
            )
            for trial in trials
        ),
        parents=tuple(parents),
        costs=tuple(costs),
    )


def write_lineage(folder: str, lineage: Lineage) -> None:
    """Writes it into a folder. Raises StorageError."""
    publish(join(folder, LINEAGE_NAME), lineage.canonical_json().encode())


def read_lineage(folder: str) -> Lineage:
    """Reads what `write_lineage` wrote.

    Raises:
        StorageError: it cannot be read.
        DataError: it is no lineage.
    """
    place = join(folder, LINEAGE_NAME)
    try:
        return decode(Lineage, read(place), place)
    except ExperimentError as error:
        raise DataError(f"{place}: is no lineage of this release: {error}") from error
