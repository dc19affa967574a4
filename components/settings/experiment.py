"""The experiment: everything that determines the numbers of a study, as one typed, frozen value.

How it is written by a person and how mistakes in it are reported: `optduel.components.settings.authoring`.
This module reads no files and knows no framework.
"""

import hashlib
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from optduel.components.settings.arms import Arm
from optduel.components.settings.image_sources import Source
from optduel.components.settings.looks import LOOK_EVERY, looks_until
from optduel.components.settings.networks import Model, PretrainedModel
from optduel.components.settings.recipe import Augmentation, EarlyStopping
from optduel.components.settings.retraining import Retraining
from optduel.components.settings.section import (
    Fraction,
    NonNegativeFloat,
    PositiveFloat,
    PositiveInt,
    Section,
    Slug,
    canonical_json,
)
from optduel.components.settings.tuning import Tuning, problems

# --- data -----------------------------------------------------------------------------------------


class Split(Section):
    """The fractions of every class that go to each split; they sum to 1.

    Without a test split the final metrics are taken on the validation split, and the report says so.
    """

    train: PositiveFloat = 0.8
    validation: PositiveFloat = 0.1
    test: NonNegativeFloat = 0.1
    seed: int = 0

    @model_validator(mode="after")
    def _sums_to_one(self) -> Self:
        total = self.train + self.validation + self.test
        if abs(total - 1) > 1e-9:
            raise ValueError(f"train + validation + test must be 1, they sum to {total:.6g}")
        return self


class Data(Section):
    """Which images, and the records made of them.

    Attributes:
        image_size: height and width in pixels that every image is resized to.
        channels: 1 grey, 3 red-green-blue.
        encoding: "raw" pixels are read without decoding; "jpeg" takes less room for large images.
        shards: files per split, a multiple of every worker count that will read them; a split that would have
            more than 256 MB in each gets a multiple of so many.
        skip_corrupt: leave single files out that are no sound images, and record them, instead of refusing
            the data set; folders out of place are refused all the same.
        near_duplicates: what becomes of images that look alike and would lie in two splits. "tell" names
            them, "move" puts them into one split, "refuse" ends. Exact copies never lie in two splits.
    """

    source: Source
    image_size: tuple[Annotated[int, Field(ge=4, le=4096)], Annotated[int, Field(ge=4, le=4096)]]
    channels: Literal[1, 3] = 3
    split: Split = Split()
    encoding: Literal["raw", "jpeg"] = "raw"
    shards: Annotated[int, Field(ge=1, le=4096)] = 8
    skip_corrupt: bool = False
    near_duplicates: Literal["tell", "move", "refuse"] = "tell"

    def with_split_of(self, seed: int) -> "Data":
        """The same images, split as a seed of the study draws it where every seed does."""
        split = self.split.model_copy(update={"seed": self.split.seed + seed})
        return self.model_copy(update={"split": split})

    @model_validator(mode="after")
    def _one_test_split(self) -> Self:
        if self.source.has_test_split and self.split.test > 0:
            raise ValueError("source.test_split is set: split.test must be 0, a data set has one test split")
        return self


# --- training, compute, study ---------------------------------------------------------------------


class Training(Section):
    """How long and how exactly every arm trains.

    Attributes:
        global_batch_size: examples of one optimizer step over all workers.
        precision: of the arithmetic; "mixed_bfloat16" keeps float32 weights, "auto" takes the faster one of
            the machine and records it, so that its numbers are not those of every machine. "float64" is for
            proofs that two runs compute the same.
        log_every_steps: optimizer steps between two training rows of the history.
        augmentation: random changes of training images.
        label_smoothing: share of each label that is spread evenly over all classes (arXiv 1512.00567,
            section 7).
        clip_norm: the gradient of the whole loss is scaled down to this Euclidean norm where it is longer.
        moving_average: the model that is validated and exported has weights that are the average of those
            after each step: average * moving_average + weight * (1 - moving_average).
        early_stopping: ends trials that no longer improve.
    """

    epochs: Annotated[int, Field(ge=1, le=100_000)]
    global_batch_size: Annotated[int, Field(ge=1, le=1_048_576)]
    precision: Literal["float32", "mixed_bfloat16", "auto", "float64"] = "float32"
    log_every_steps: PositiveInt = 50
    augmentation: Augmentation | None = None
    label_smoothing: Fraction = 0
    clip_norm: PositiveFloat | None = None
    moving_average: Annotated[float, Field(gt=0, lt=1)] | None = None
    early_stopping: EarlyStopping | None = None


class Compute(Section):
    """The size of a training run and how it survives: changes no numbers, and is no part of the fingerprint.

    Attributes:
        workers: training processes; they divide `data.shards`.
        threads_per_worker: processor threads of one worker; its equal share of the machine when absent.
        restarts: how often the whole group of workers is started again after one of them was lost.
        checkpoint_steps: optimizer steps between two checkpoints; one is written after every epoch anyway.
        checkpoint_seconds: time between two checkpoints; the work that a killed worker costs at most.
        checkpoints_kept: how many of the newest checkpoints stay.
        start_seconds: a worker that its peers do not answer, or that has not begun its first step so long
            after they have, is ended.
        progress_seconds: a worker that has made no step for so long is ended.
        grace_seconds: a worker that is asked to stop saves and ends within this time, or is killed.
    """

    workers: Annotated[int, Field(ge=1, le=1024)] = 1
    threads_per_worker: PositiveInt | None = None
    restarts: Annotated[int, Field(ge=0, le=1000)] = 5
    checkpoint_steps: PositiveInt | None = None
    checkpoint_seconds: PositiveFloat = 300
    checkpoints_kept: PositiveInt = 2
    start_seconds: PositiveFloat = 300
    progress_seconds: PositiveFloat = 600
    grace_seconds: PositiveFloat = 12


Metric = Literal["accuracy", "balanced_accuracy", "macro_f1", "area_under_roc", "cross_entropy"]
"""Of a trained classifier. The area under the ROC is the mean over the classes, each against the rest; macro
F1 and balanced accuracy (the mean recall) are means over the classes, too, whatever their sizes."""


class Study(Section):
    """The repetitions and the question asked of them.

    Attributes:
        seeds: one trial of each arm per seed; the arms share initial weights and data order of a seed.
        metric: what the verdict is about.
        confidence: level of every interval; a difference is shown when p < 1 - confidence.
        vary_split: whether every seed draws its own split of the images, instead of all of them sharing one:
            for small data sets, where the split decides as much as the optimizer does.
        first_look: seeds of the first verdict, where the study was extended since; see `looks`.
    """

    seeds: Annotated[tuple[Annotated[int, Field(ge=0, lt=2**31)], ...], Field(min_length=1, max_length=1000)]
    metric: Metric = "accuracy"
    confidence: Annotated[float, Field(gt=0.5, le=0.999)] = 0.95
    vary_split: bool = False
    first_look: PositiveInt | None = None

    @field_validator("seeds")
    @classmethod
    def _distinct(cls, seeds: tuple[int, ...]) -> tuple[int, ...]:
        if len(set(seeds)) != len(seeds):
            raise ValueError("must differ from each other: a repeated seed is no new evidence")
        return seeds

    @model_validator(mode="after")
    def _ends_with_a_look(self) -> Self:
        if len(self.seeds) not in self.looks:
            raise ValueError(
                f"first_look = {self.first_look}: must be the number of seeds, {len(self.seeds)}, less a "
                f"multiple of {LOOK_EVERY}; leave it out if this is the first verdict"
            )
        return self

    @property
    def looks(self) -> tuple[int, ...]:
        """The numbers of seeds at which a verdict was made or could have been; the last one has all seeds."""
        return looks_until(self.first_look or len(self.seeds), len(self.seeds))


class Experiment(Section):
    """A whole study: two or more arms, trained on the same records with the same seeds.

    Attributes:
        tuning: how each arm's setting is found first; without it the arms train as they are typed in.
        retraining: makes every run a retraining of a champion.
    """

    name: Slug
    title: str
    data: Data
    model: Model
    arms: Annotated[tuple[Arm, ...], Field(min_length=2, max_length=12)]
    training: Training
    compute: Compute = Compute()
    tuning: Tuning | None = None
    study: Study
    retraining: Retraining | None = None

    @field_validator("arms")
    @classmethod
    def _arm_names_differ(cls, arms: tuple[Arm, ...]) -> tuple[Arm, ...]:
        names = [arm.name for arm in arms]
        if len(set(names)) != len(names):
            raise ValueError(f"every arm needs a name of its own, got {', '.join(names)}")
        return arms

    @model_validator(mode="after")
    def _splits_that_vary(self) -> Self:
        """What a split per seed cannot go with, because images would be judged on that were seen before."""
        if not self.study.vary_split:
            return self
        if self.tuning is not None:
            raise ValueError(
                "study.vary_split: goes without tuning: test images of one seed's split are validation "
                "images of another's, so the settings would be chosen on them; leave tuning out"
            )
        if self.retraining is not None:
            raise ValueError("study.vary_split: goes without retraining, which judges on one split")
        if self.data.source.has_test_split:
            raise ValueError(
                "study.vary_split: needs a test split that is drawn; leave out data.source.test_split"
            )
        return self

    @model_validator(mode="after")
    def _workers_divide_shards(self) -> Self:
        if self.data.shards % self.compute.workers:
            raise ValueError(
                f"compute.workers = {self.compute.workers}: must divide data.shards = {self.data.shards}, "
                "so that every worker reads shards of its own"
            )
        return self

    @model_validator(mode="after")
    def _retrains_what_it_has(self) -> Self:
        if self.retraining is None:
            return self
        names = [arm.name for arm in self.arms]
        if self.retraining.arm not in (None, *names):
            raise ValueError(
                f"retraining.arm = {self.retraining.arm}: is no arm of the experiment; take one of "
                f"{', '.join(names)}"
            )
        if not (self.data.split.test or self.data.source.has_test_split):
            raise ValueError(
                "retraining is set: candidate and champion are judged on a test split; give "
                "data.split.test a fraction"
            )
        return self

    @model_validator(mode="after")
    def _tuned_fairly(self) -> Self:
        if found := problems(self.arms, self.tuning, self.study.seeds):
            raise ValueError("\n".join(found))
        return self

    @model_validator(mode="after")
    def _augmentation_fits_images(self) -> Self:
        augmentation = self.training.augmentation
        misfits = augmentation.misfits(*self.data.image_size, self.data.channels) if augmentation else []
        if misfits:
            raise ValueError("\n".join(f"training.augmentation.{misfit}" for misfit in misfits))
        return self

    @property
    def places(self) -> Mapping[str, str]:
        """The paths and URIs that a run reads, by their fields."""
        named = {f"data.source.{field}": place for field, place in self.data.source.places.items()}
        return named | ({"model.start": self.model.start} if isinstance(self.model, PretrainedModel) else {})

    @property
    def fingerprint(self) -> str:
        """SHA-256, in hexadecimal, of the canonical JSON of all that determines the numbers.

        Names, the title, `compute`, `retraining` and `tuning.tasks` do not: a renamed, more widely spread or
        retrained experiment is the same one.
        """
        others: Any = dict.fromkeys(("name", "title", "compute", "retraining"), True) | {"tuning": {"tasks"}}
        numbers = self.model_dump(mode="json", exclude=others)
        return hashlib.sha256(canonical_json(numbers).encode()).hexdigest()
