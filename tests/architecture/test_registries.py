"""Adding an optimizer, a model, a schedule, a source or a kind of job forgets no part.

Each contract takes a class or a registry, so that an incomplete one can be planted.
"""

import hashlib
import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, cast, get_args

import numpy as np
import pytest

from optduel.components.settings import Arm, Job, Model, Schedule, Source, learning_rate
from optduel.components.settings.arms import BaseArm
from optduel.components.settings.image_sources import BaseSource
from optduel.components.settings.schedules import BaseSchedule
from optduel.components.settings.section import Section


def members(union: Any, tag: str) -> dict[str, type[Section]]:
    """The classes of a discriminated union, by the value that chooses them."""
    classes = get_args(get_args(union)[0])
    return {get_args(one.model_fields[tag].annotation)[0]: one for one in classes}


ARMS = members(Arm, "optimizer")
SCHEDULES = members(Schedule, "schedule")
SOURCES = members(Source, "kind")
MODELS = members(Model, "name")
JOB_KINDS = get_args(Job.model_fields["kind"].annotation)

RATE = {"schedule": "constant", "base": 0.5}
EXAMPLES: dict[str, dict[str, Any]] = {
    "exponential": {"factor_per_epoch": 0.5},
    "step": {"boundaries_epochs": [1], "factor": 0.5},
    "folder": {"path": "photos"},
    "table": {"path": "photos/labels.csv"},
    "tfds": {"name": "beans"},
    "pretrained": {"start": "start.keras", "sha256": "0" * 64},
}
"""Fields that have no default, by the tag of their class."""


def made(tag: str, one: type[Section], **fields: Any) -> Any:
    return one.model_validate(EXAMPLES.get(tag, {}) | fields)


# --- arms -----------------------------------------------------------------------------------------


def check_arm(one: type[Section]) -> None:
    """Its decay reaches training: a weight without a gradient shrinks by as much as the arm states."""
    arm = cast(BaseArm, one.model_validate({"name": "a", "learning_rate": RATE}))
    assert (arm.coupled_l2, arm.decoupled_decay, arm.equivalent_decay) == (0, 0, 0)
    strong = arm.model_copy(update={arm.decay_field: 0.125})
    assert strong.model_fields_set >= {arm.decay_field}
    assert strong.coupled_l2 + strong.decoupled_decay == 0.125
    assert strong.equivalent_decay is not None or strong.decay_note
    assert strong.title
    assert strong.settings_text


@pytest.mark.parametrize("one", ARMS.values())
def test_every_arm_states_its_decay(one: type[Section]) -> None:
    check_arm(one)


def trains_with_decay(optimizer: str, one: type[Section]) -> None:
    import keras
    import tensorflow as tf

    from optduel.components.train.model.optimizers import Optimizer

    arm = cast(Any, one.model_validate({"name": "a", "learning_rate": RATE}))
    arm = arm.model_copy(update={arm.decay_field: 0.125})
    weight = keras.Variable([2.0], dtype="float64", name="kernel")
    subject = Optimizer(arm, [weight], epoch_steps=1, total_steps=10)
    numbers = subject.named(tf.constant(subject.numbers(0, 1)[0]))
    gradients = subject.add_penalty_gradients([tf.zeros([1], tf.float64)], numbers)
    tf.distribute.get_strategy().run(lambda: subject.apply(gradients, tf.constant(0, tf.float64), numbers))
    assert 0 < float(weight.numpy()[0]) < 2, "a decay was stated, and nothing decayed"
    assert subject.decay(0) > 0
    assert (float(subject.penalty(numbers, subject.variables)) > 0) == (arm.coupled_l2 > 0)


@pytest.mark.parametrize(("optimizer", "one"), ARMS.items())
def test_every_arm_trains_with_the_decay_that_it_states(optimizer: str, one: type[Section]) -> None:
    trains_with_decay(optimizer, one)


def test_an_arm_that_forgot_a_part_cannot_exist() -> None:
    class Lion(BaseArm):
        optimizer: Literal["lion"] = "lion"
        weight_decay: float = 0

    with pytest.raises(TypeError, match=r"abstract.*coupled_l2.*decoupled_decay.*title"):
        check_arm(Lion)


def test_an_arm_whose_decay_goes_nowhere_fails_its_contract() -> None:
    class Lion(ARMS["adamw"]):
        optimizer: Literal["lion"] = "lion"

        @property
        def decoupled_decay(self) -> float:
            return 0.0

    with pytest.raises(AssertionError):
        check_arm(Lion)


# --- schedules ------------------------------------------------------------------------------------


def check_schedule(tag: str, one: type[Section]) -> None:
    schedule = made(tag, one, base=0.5, warmup_epochs=1)
    rates = learning_rate(schedule, np.arange(40.0), 10, 40)
    assert rates.shape == (40,)
    assert 0 < rates.min() < rates.max() <= 0.5
    assert schedule.text.startswith("0.5, ")
    assert schedule.text.endswith("; warm-up 1 epoch")
    assert schedule.unreached(4) == []
    assert schedule.unreached(1)


@pytest.mark.parametrize(("tag", "one"), SCHEDULES.items())
def test_every_schedule_has_a_rate_and_words(tag: str, one: type[Section]) -> None:
    check_schedule(tag, one)


def test_a_schedule_that_forgot_a_part_cannot_exist() -> None:
    class Sawtooth(BaseSchedule):
        schedule: Literal["sawtooth"] = "sawtooth"

    with pytest.raises(TypeError, match=r"abstract.*course.*multiplier"):
        check_schedule("sawtooth", Sawtooth)


# --- sources --------------------------------------------------------------------------------------


def check_source(tag: str, one: type[Section]) -> None:
    """Whatever names a place is known as one; images are here, in a place, or downloaded."""
    source = cast(Any, made(tag, one))
    assert source.is_downloaded in (True, False)
    assert source.has_test_split in (True, False)
    assert source.example_count is None or source.example_count > 0
    assert not (source.is_downloaded and source.places)
    named = [name for name in one.model_fields if name in ("path", "archive", "data_dir", "folder", "uri")]
    for name in named:
        placed = cast(Any, made(tag, one, **{name: "/data"}))
        assert placed.places.get(name) == "/data"
        assert not placed.is_downloaded


@pytest.mark.parametrize(("tag", "one"), SOURCES.items())
def test_every_source_says_what_it_reads(tag: str, one: type[Section]) -> None:
    check_source(tag, one)


def test_a_source_that_forgot_a_part_cannot_exist() -> None:
    class Bucket(BaseSource):
        kind: Literal["bucket"] = "bucket"
        uri: str = "gs://b/images"

    with pytest.raises(TypeError, match=r"abstract.*example_count.*has_test_split.*is_downloaded.*places"):
        check_source("bucket", Bucket)


def test_a_source_whose_place_nobody_learns_of_fails_its_contract() -> None:
    class Bucket(SOURCES["digits"]):
        kind: Literal["bucket"] = "bucket"
        uri: str = "gs://b/images"

    with pytest.raises(AssertionError):
        check_source("bucket", Bucket)


# --- rows -----------------------------------------------------------------------------------------


def rows_of(registry: str) -> Mapping[str, Any]:
    """What the experiment's or the deployment's word is looked up in."""
    if registry == "OPTIMIZERS":
        from optduel.components.train.model.optimizers import OPTIMIZERS

        return OPTIMIZERS
    if registry == "MODELS":
        from optduel.components.train.model.models import MODELS

        return MODELS
    if registry == "SOURCES":
        from optduel.components.prepare.sources import SOURCES

        return SOURCES
    if registry == "OPERATORS":
        from optduel.pipeline.doctor.cluster import OPERATORS

        return OPERATORS
    if registry == "CONTROLLED":
        from optduel.pipeline.doctor.controllers import CONTROLLED

        return CONTROLLED
    from optduel.components.train.cluster.cluster_launcher import JOB_KINDS

    return JOB_KINDS


def check_rows(words: Mapping[str, Any] | tuple[str, ...], rows: Mapping[str, Any]) -> None:
    assert set(rows) == set(words), "each word that an author may write has its row, and no other"


@pytest.mark.parametrize(
    ("words", "registry"),
    [
        (ARMS, "OPTIMIZERS"),
        (MODELS, "MODELS"),
        (SOURCES, "SOURCES"),
        (JOB_KINDS, "JOB_KINDS"),
        (JOB_KINDS, "OPERATORS"),
        (JOB_KINDS, "CONTROLLED"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_every_word_has_its_row(words: Any, registry: str) -> None:
    check_rows(words, rows_of(registry))


def test_a_word_without_a_row_fails_its_contract() -> None:
    with pytest.raises(AssertionError, match="has its row"):
        check_rows((*JOB_KINDS, "pytorchjob"), rows_of("JOB_KINDS"))


@pytest.mark.parametrize(("name", "one"), MODELS.items())
def test_every_model_can_be_built(name: str, one: type[Section], tmp_path: Path) -> None:
    from optduel.components.train.model.models import build_model, parameter_kind

    fields = {}
    if "start" in one.model_fields:
        start = tmp_path / "start.keras"
        build_model(cast(Any, made("cnn", MODELS["cnn"])), (12, 12, 3), 4).save(start)
        fields = {"start": str(start), "sha256": hashlib.sha256(start.read_bytes()).hexdigest()}
    built = build_model(cast(Any, made(name, one, **fields)), (12, 12, 3), 4)
    assert built.output_shape == (None, 4)
    assert "kernel" in {parameter_kind(variable.path) for variable in built.trainable_variables}


def check_opened(source: Any) -> None:
    """It has all that preparing records asks of it."""
    from optduel.components.prepare.sources import Source as Opened

    missing = [name for name in vars(Opened) if not name.startswith("_") and not hasattr(source, name)]
    assert missing == [], f"has no {', '.join(missing)}"
    assert len(source.classes) > 1
    assert source.read(0)


def test_every_source_that_needs_no_network_opens(tmp_path: Path) -> None:
    for label in ("cat", "dog"):
        (tmp_path / label).mkdir()
        (tmp_path / label / "one.png").write_bytes(b"image")
    rows = rows_of("SOURCES")
    check_opened(rows["digits"](made("digits", SOURCES["digits"]), tmp_path))
    check_opened(rows["folder"](made("folder", SOURCES["folder"], path=str(tmp_path)), tmp_path))
    table = tmp_path / "labels.csv"
    table.write_text("image,label\ncat/one.png,cat\ndog/one.png,dog\n")
    check_opened(rows["table"](made("table", SOURCES["table"], path=str(table)), tmp_path))


def test_an_opened_source_that_forgot_a_part_fails_its_contract() -> None:
    class Bucket:
        name, classes = "bucket", ("a", "b")

    with pytest.raises(AssertionError, match="examples"):
        check_opened(Bucket())


# --- job kinds ------------------------------------------------------------------------------------


def check_job_kind(kind: Any) -> None:
    """It has all that the launcher asks of it."""
    from optduel.components.train.cluster.jobs import JobKind

    fields = set(JobKind.__annotations__) | {name for name in vars(JobKind) if not name.startswith("_")}
    missing = sorted(name for name in fields if not hasattr(kind, name))
    assert missing == [], f"has no {', '.join(missing)}"
    methods = [name for name in fields if callable(getattr(JobKind, name, None))]
    for name in methods:
        wanted: Callable[..., Any] = getattr(JobKind, name)
        expected = list(inspect.signature(wanted).parameters)[1:]
        assert list(inspect.signature(getattr(kind, name)).parameters) == expected


def kinds_of_jobs() -> dict[str, Any]:
    from optduel.components.train.cluster.tfjob import TFJobs
    from optduel.components.train.cluster.trainjob import TrainJobs

    return {"trainjob": TrainJobs([]), "tfjob": TFJobs()}


@pytest.mark.parametrize("kind", JOB_KINDS)
def test_every_kind_of_job_has_all_that_launcher_and_doctor_ask(kind: str) -> None:
    job = kinds_of_jobs()[kind]
    check_job_kind(job)
    operator = rows_of("OPERATORS")[kind]
    assert (operator.group, operator.resource) == (job.resource.group, job.resource.plural)
    assert operator.checks
    assert (job.resource.group, job.resource.plural) in rows_of("CONTROLLED")[kind].parts


def test_a_kind_of_job_that_forgot_a_part_fails_its_contract() -> None:
    class PyTorchJobs:
        title = "PyTorchJob"

    with pytest.raises(AssertionError, match="pod_selector"):
        check_job_kind(PyTorchJobs())
