import json
import math
import random
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from optduel.components.core import ExperimentError
from optduel.components.settings import (
    Compute,
    Experiment,
    canonical_json,
    json_schema,
    parse_experiment,
    validate,
)

SHIPPED = sorted((Path(__file__).parents[2] / "pipeline" / "experiments").glob("*.yaml"))

NO_NUMBERS = {"name", "title", "retraining"} | {f"compute.{name}" for name in Compute.model_fields}
"""The fields that leave every number of a study as it is."""

CHANGES: dict[str, Any] = {
    "data.source.kind": None,  # changes together with the fields of the source
    "data.source.name": "mnist",
    "data.source.version": "3.0.0",
    "data.source.split": "train",
    "data.source.test_split": None,  # needs split.test = 0; see the test of its own
    "data.source.archive": "b.tgz",
    "data.source.data_dir": None,  # goes without an archive
    "data.image_size": [32, 32],
    "data.channels": None,  # grey images have no saturation
    "data.split.train": None,  # sums to 1 with the other two
    "data.split.validation": None,
    "data.split.test": None,
    "data.split.seed": 2,
    "data.encoding": "jpeg",
    "data.shards": 16,
    "data.skip_corrupt": True,
    "data.near_duplicates": "move",
    "model.name": None,  # changes together with the fields of the model
    "model.filters": [8, 32],
    "model.dropout": 0.5,
    "arms.0.name": "other",
    "arms.0.optimizer": None,  # changes together with the fields of the arm
    "arms.0.momentum": 0.75,
    "arms.0.nesterov": True,
    "arms.0.l2": 0.03125,
    "arms.0.decayed": ["kernel", "normalization"],
    "arms.0.learning_rate.schedule": None,  # changes together with the fields of the schedule
    "arms.0.learning_rate.base": 0.5,
    "arms.0.learning_rate.warmup_epochs": 2,
    "arms.0.learning_rate.final_fraction": 0,
    "arms.1.name": "other",
    "arms.1.optimizer": None,
    "arms.1.beta_1": 0.25,
    "arms.1.beta_2": 0.5,
    "arms.1.epsilon": 0.5,
    "arms.1.weight_decay": 1,
    "arms.1.decayed": ["kernel"],
    "arms.1.learning_rate.schedule": None,
    "arms.1.learning_rate.base": 0.25,
    "arms.1.learning_rate.warmup_epochs": 1,
    "arms.1.learning_rate.boundaries_epochs": [2, 3],
    "arms.1.learning_rate.factor": 0.25,
    "training.epochs": 9,
    "training.global_batch_size": 32,
    "training.precision": "mixed_bfloat16",
    "training.log_every_steps": 11,
    "tuning": None,
    "training.augmentation.flip": False,
    "training.augmentation.crop_padding": 5,
    "training.augmentation.random_resized_crop": None,  # goes without the other crop
    "training.augmentation.brightness": 0.25,
    "training.augmentation.contrast": 0.25,
    "training.augmentation.saturation": 0.25,
    "training.augmentation.cutout": 9,
    "training.augmentation.mixup": 0.5,
    "training.label_smoothing": 0.25,
    "training.clip_norm": 2,
    "training.moving_average": 0.5,
    "training.early_stopping.metric": "cross_entropy",
    "training.early_stopping.patience": 3,
    "training.early_stopping.min_change": 0,
    "study.seeds": [0, 1, 3],
    "study.metric": "cross_entropy",
    "study.confidence": 0.875,
    "study.vary_split": True,
    "study.first_look": None,  # depends on how many seeds there are
}
"""For every other field a value that changes numbers, or None where it cannot change alone."""


def build(authored: dict[str, Any], *assignments: str) -> Experiment:
    return parse_experiment(yaml.safe_dump(authored), "mine.yaml", assignments)


def fields_of(value: Any, path: str = "") -> list[str]:
    if isinstance(value, dict):
        return [field for key, inner in value.items() for field in fields_of(inner, f"{path}.{key}")]
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return [field for place, inner in enumerate(value) for field in fields_of(inner, f"{path}.{place}")]
    return [path.removeprefix(".")]


def respelt(value: Any, chance: random.Random) -> Any:
    """The same value, its keys in another order and its whole numbers as int or float."""
    if isinstance(value, dict):
        keys = list(value)
        chance.shuffle(keys)
        return {key: respelt(value[key], chance) for key in keys}
    if isinstance(value, list):
        return [respelt(element, chance) for element in value]
    if isinstance(value, int | float) and not isinstance(value, bool) and float(value).is_integer():
        return chance.choice([int, float])(value)
    return value


def test_the_fingerprint_is_the_same_on_every_machine_and_day(authored: dict[str, Any]) -> None:
    assert build(authored).fingerprint == "1fde342867f3e356cd2d101023efa4e1c08f13057c819ca2cca9bcf7d9cb72ef"


@given(chance=st.randoms(use_true_random=False))
def test_the_fingerprint_ignores_key_order_and_spelling_of_numbers(chance: random.Random) -> None:
    authored = yaml.safe_load(SHIPPED[0].read_text())
    expected = validate(Experiment, authored, "x")
    actual = validate(Experiment, respelt(authored, chance), "x")
    assert actual.fingerprint == expected.fingerprint
    assert actual.canonical_json() == expected.canonical_json()


def test_every_field_is_known_to_change_numbers_or_not_to(authored: dict[str, Any]) -> None:
    fields = fields_of(build(authored).model_dump(mode="json"))
    assert sorted(fields) == sorted(NO_NUMBERS | CHANGES.keys())


@pytest.mark.parametrize("field", [field for field, value in CHANGES.items() if value is not None])
def test_the_fingerprint_covers_every_field_that_determines_numbers(
    authored: dict[str, Any], field: str
) -> None:
    changed = build(authored, f"{field}={json.dumps(CHANGES[field])}")
    assert changed.fingerprint != build(authored).fingerprint


@pytest.mark.parametrize(
    "assignments",
    [
        ["data.source={kind: digits}"],
        ["data.source={kind: folder, path: a}"],
        ["data.split={train: 0.5, validation: 0.375, test: 0.125, seed: 1}"],
        ["data.split={train: 0.75, validation: 0.25, test: 0, seed: 1}"],
        ["data.split={train: 0.75, validation: 0.25, test: 0, seed: 1}", "data.source.test_split=test"],
        ["model={name: linear}"],
        ["model={name: tutorial_cnn}"],
        ["training.augmentation.saturation=0", "data.channels=1"],
        ["model={name: resnet}", "model.depth=14", "model={name: resnet, form: imagenet, depth: 50}"],
        [
            "training.augmentation={random_resized_crop: {}}",
            "training.augmentation.random_resized_crop.scale=[0.5, 1]",
        ],
        ["arms.0={name: first, optimizer: sgdw, learning_rate: {schedule: constant, base: 1}}"],
        ["arms.0={name: first, optimizer: adam, learning_rate: {schedule: constant, base: 1}}"],
        ["arms.0.learning_rate={schedule: constant, base: 1, warmup_epochs: 1}"],
        ["arms.0.learning_rate={schedule: exponential, base: 1, warmup_epochs: 1, factor_per_epoch: 1}"],
    ],
)
def test_the_fingerprint_covers_fields_that_change_together(
    authored: dict[str, Any], assignments: list[str]
) -> None:
    fingerprints = {
        build(authored, *assignments[:count]).fingerprint for count in range(len(assignments) + 1)
    }
    assert len(fingerprints) == len(assignments) + 1


def test_the_fingerprint_ignores_name_title_and_compute(authored: dict[str, Any]) -> None:
    renamed = build(authored, "name=other", "title=Other", "compute={workers: 8, threads_per_worker: 4}")
    assert renamed.fingerprint == build(authored).fingerprint
    assert renamed != build(authored)


def test_defaults_written_out_are_the_same_experiment(authored: dict[str, Any]) -> None:
    authored["data"]["split"] = {"train": 0.8}
    complete = build(authored).model_dump(mode="json")
    assert complete["data"]["split"] == {"train": 0.8, "validation": 0.1, "test": 0.1, "seed": 0}
    assert build(complete).fingerprint == build(authored).fingerprint


def test_canonical_json_is_sorted_and_has_no_spaces() -> None:
    assert canonical_json({"b": [1, 2.0, None], "a": {"d": "ä b", "c": True}}) == (
        '{"a":{"c":true,"d":"ä b"},"b":[1,2.0,null]}'
    )


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_canonical_json_refuses_what_json_does_not_have(value: float) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        canonical_json({"a": [value]})


def test_an_experiment_cannot_be_changed(authored: dict[str, Any]) -> None:
    experiment = build(authored)
    with pytest.raises(ValidationError, match="frozen"):
        experiment.training.epochs = 3
    with pytest.raises(ValidationError, match="frozen"):
        experiment.name = "other"
    assert isinstance(experiment.arms, tuple)


def test_biases_and_normalization_are_not_decayed_unless_asked(authored: dict[str, Any]) -> None:
    for arm in authored["arms"]:
        del arm["decayed"]
    assert {arm.decayed for arm in build(authored).arms} == {("kernel",)}


@pytest.fixture(scope="module")
def schema_validator() -> jsonschema.Draft202012Validator:
    schema = json_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    assert json.loads(json.dumps(schema)) == schema
    return jsonschema.Draft202012Validator(schema)


@pytest.mark.parametrize("path", SHIPPED, ids=[path.stem for path in SHIPPED])
def test_shipped_experiments_fulfil_the_schema(
    schema_validator: jsonschema.Draft202012Validator, path: Path
) -> None:
    authored = yaml.safe_load(path.read_text())
    schema_validator.validate(authored)
    schema_validator.validate(build(authored).model_dump(mode="json"))


@pytest.mark.parametrize(
    ("section", "changed"),
    [
        ("training", {"epochs": 0, "global_batch_size": 8}),
        ("training", {"epoch": 1, "global_batch_size": 8}),
        ("training", {"global_batch_size": 8}),
        ("name", "No Slug"),
        ("arms", []),
        ("study", {"seeds": [0], "metric": "precision"}),
        ("study", {"seeds": [0], "confidence": 0.5}),
        ("model", {"name": "tutorial"}),
        ("data", {"source": {"kind": "folder"}, "image_size": [8, 8]}),
        ("data", {"source": {"kind": "digits"}, "image_size": [8]}),
    ],
)
def test_schema_and_parser_refuse_the_same(
    schema_validator: jsonschema.Draft202012Validator, authored: dict[str, Any], section: str, changed: Any
) -> None:
    assert schema_validator.is_valid(authored)
    authored[section] = changed
    assert not schema_validator.is_valid(authored)
    with pytest.raises(ExperimentError):
        build(authored)
