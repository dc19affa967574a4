import copy
import json
from typing import Any

import pytest
import yaml

from optduel.components.core import ExperimentError
from optduel.components.settings import Arm, Experiment, Training, decode, parse_experiment, validate


def problems(authored: dict[str, Any], *assignments: str) -> list[str]:
    with pytest.raises(ExperimentError) as raised:
        parse_experiment(yaml.safe_dump(authored), "mine.yaml", assignments)
    headline, *lines = str(raised.value).splitlines()
    assert headline == f"mine.yaml: {len(lines)} problem{'s' if len(lines) > 1 else ''}"
    return lines


def refusal(authored: dict[str, Any], *assignments: str) -> str:
    with pytest.raises(ExperimentError) as raised:
        parse_experiment(yaml.safe_dump(authored), "mine.yaml", assignments)
    return str(raised.value)


@pytest.mark.parametrize(
    ("assignment", "problem"),
    [
        # fields
        ("training.epoch=3", "training.epoch: no such field; did you mean 'epochs'?"),
        ("arms.second.weight_decy=0", "arms.second.weight_decy: no such field; did you mean 'weight_decay'?"),
        (
            "study.q=1",
            "study.q: no such field; there are seeds, metric, confidence",
        ),
        ("training={global_batch_size: 8}", "training.epochs: is required"),
        ("model={name: linear, dropout: 0}", "model.dropout: no such field; there are name"),
        # kinds
        (
            "model.name=tutorial",
            "model.name = 'tutorial': must be one of tutorial_cnn, cnn, linear, resnet, pretrained;",
        ),
        ("arms.0.optimizer=adan", "arms.first.optimizer = 'adan': must be one of sgd, sgdw, adam, adamw;"),
        ("data.source={}", "data.source.kind: is required; one of digits, tfds, folder"),
        (
            "arms.0.learning_rate.schedule=cosin",
            "arms.first.learning_rate.schedule = 'cosin': must be one of constant, cosine, ",
        ),
        # enumerations
        ("data.encoding=jpg", "data.encoding = 'jpg': must be one of raw, jpeg; did you mean 'jpeg'?"),
        ("data.channels=2", "data.channels = 2: must be one of 1, 3"),
        (
            "arms.0.decayed=[kernels]",
            "arms.first.decayed.0 = 'kernels': must be one of kernel, bias, normalization; did",
        ),
        # values
        ("arms.first.learning_rate.base=-1", "arms.first.learning_rate.base = -1: must be greater than 0"),
        ("training.epochs=0", "training.epochs = 0: must be greater than or equal to 1"),
        ("training.epochs=2.5", "training.epochs = 2.5: must be a valid integer, got a number with a fract"),
        ("arms.1.weight_decay=.nan", "arms.second.weight_decay = nan: must be a finite number"),
        ("arms.1.weight_decay=.inf", "arms.second.weight_decay = inf: must be a finite number"),
        ("arms.1.weight_decay=1e999", "arms.second.weight_decay = inf: must be a finite number"),
        ("name=My Study", "name = 'My Study': String must match pattern"),
        ("title=", "title = None: must be a valid string"),
        # shapes
        ("arms=[]", "arms = []: must have at least 2 elements"),
        ("study.seeds=3", "study.seeds = 3: must be a list"),
        ("training=3", "training = 3: must be a mapping of fields: epochs, global_batch_size, precision,"),
        ("arms.0.learning_rate=0.1", "arms.first.learning_rate = 0.1: must be a mapping of fields: base, "),
        # rules across fields
        (
            "study.seeds=[1, 1]",
            "study.seeds: must differ from each other: a repeated seed is no new evidence",
        ),
        ("arms.1.name=first", "arms: every arm needs a name of its own, got first, first"),
        ("data.split.test=0.5", "data.split: train + validation + test must be 1, they sum to 1.375"),
        ("data.source.test_split=test", "data: source.test_split is set: split.test must be 0"),
        (
            "arms.1.learning_rate.boundaries_epochs=[4, 2]",
            "arms.second.learning_rate.boundaries_epochs: must incr",
        ),
        ("compute.workers=3", "compute.workers = 3: must divide data.shards = 8, so that"),
    ],
)
def test_a_mistake_is_named_with_its_path_value_and_rule(
    authored: dict[str, Any], assignment: str, problem: str
) -> None:
    assert problems(authored, assignment)[0].startswith(problem)


def test_all_problems_are_reported_at_once_and_nothing_else(authored: dict[str, Any]) -> None:
    authored["arms"][0]["momentum"] = 1.5
    authored["arms"][0]["momentun"] = 0.9
    authored["arms"][1]["optimizer"] = "adamv"
    authored["training"]["epochs"] = -1
    del authored["data"]["image_size"]
    authored["studie"] = {}
    assert problems(authored) == [
        "data.image_size: is required",
        "arms.first.momentum = 1.5: must be less than 1",
        "arms.first.momentun: no such field; did you mean 'momentum'?",
        "arms.second.optimizer = 'adamv': must be one of sgd, sgdw, adam, adamw; did you mean 'adam'?",
        "training.epochs = -1: must be greater than or equal to 1",
        "studie: no such field; did you mean 'study'?",
    ]


def test_arms_without_a_usable_name_are_shown_by_position(authored: dict[str, Any]) -> None:
    del authored["arms"][1]["name"]
    assert problems(authored) == ["arms.1.name: is required"]


def test_too_few_arms_are_reported_beside_problems_elsewhere(authored: dict[str, Any]) -> None:
    authored["arms"] = authored["arms"][:1]
    authored["training"]["epochs"] = 0
    assert [line.partition(" = ")[0] for line in problems(authored)] == ["arms", "training.epochs"]


@pytest.mark.parametrize(
    "path", ["title", "training", "arms", "model.name", "study.seeds", "data.source.kind"]
)
def test_long_values_are_shortened(authored: dict[str, Any], path: str) -> None:
    (line,) = problems(authored, f"{path}=[{'long ' * 1000}]")
    assert "long" in line
    assert len(line) < 300


def test_a_long_field_name_is_shortened(authored: dict[str, Any]) -> None:
    authored["f" * 5000] = 1
    assert len(problems(authored)[0]) < 300


def test_keys_that_are_no_text_are_named(authored: dict[Any, Any]) -> None:
    authored[1] = 2
    authored["training"][None] = 3
    assert problems(authored) == ["training.None = None: Keys must be strings", "1 = 1: Keys must be strings"]


@pytest.mark.parametrize("text", ["", "[]", "3", "just text"])
def test_a_document_that_is_no_mapping_is_refused(text: str) -> None:
    with pytest.raises(ExperimentError, match=r"^mine\.yaml = .*: must hold the fields of an experiment$"):
        parse_experiment(text, "mine.yaml")


@pytest.mark.parametrize("spelling", ["0.001", "1e-3", "1.0e-3", "1E-3", "+1e-3", "'0.001'"])
def test_every_spelling_of_a_number_is_the_number(authored: dict[str, Any], spelling: str) -> None:
    experiment = parse_experiment(yaml.safe_dump(authored), "x", [f"arms.second.weight_decay={spelling}"])
    assert experiment.arms[1].model_dump()["weight_decay"] == 0.001


@pytest.mark.parametrize("element", ["second", "1"])
def test_set_finds_an_arm_by_name_and_by_position(authored: dict[str, Any], element: str) -> None:
    expected = copy.deepcopy(authored)
    expected["arms"][1]["learning_rate"]["base"] = 0.125
    assigned = parse_experiment(yaml.safe_dump(authored), "x", [f"arms.{element}.learning_rate.base=0.125"])
    assert assigned == parse_experiment(yaml.safe_dump(expected), "x")


def test_set_applies_assignments_in_order_and_makes_missing_sections(authored: dict[str, Any]) -> None:
    del authored["compute"]
    assignments = [
        "compute.workers=8",
        "study.seeds.2=9",
        "training={epochs: 1, global_batch_size: 2}",
        "training.epochs=5",
    ]
    experiment = parse_experiment(yaml.safe_dump(authored), "x", assignments)
    assert experiment.compute.workers == 8
    assert experiment.study.seeds == (0, 1, 9)
    assert (experiment.training.epochs, experiment.training.global_batch_size) == (5, 2)


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("training.epochs", "--set training.epochs: write path=value, for example training.epochs=3"),
        ("=3", "--set =3: write path=value, for example training.epochs=3"),
        ("title=[1", "--set title=[1: not YAML: line 1, column 3: "),
        (
            "title=!!python/name:os.system",
            "--set title=!!python/name:os.system: not YAML: line 1, column 1: the tag",
        ),
        ("title=" + "[x" * 1000, "--set title=[x[x"),
        ("arms.third.l2=0", "--set arms.third.l2: no element 'third'; there are first, second"),
        ("arms.2.l2=0", "--set arms.2.l2: no element '2'; there are first, second"),
        ("arms.-1.l2=0", "--set arms.-1.l2: no element '-1'; there are first, second"),
        ("arms.².l2=0", "--set arms.².l2: no element '²'; there are first, second"),
        ("study.seeds.3=0", "--set study.seeds.3: no element '3'; there are 0, 1, 2"),
        (
            "training.epochs.x=3",
            "--set training.epochs.x: training.epochs = 8 is a single value and has no x; set training.",
        ),
        (
            "training.epochs.x.y=3",
            "--set training.epochs.x.y: training.epochs = 8 is a single value and has no x; set training.",
        ),
        (
            "arms.first.name.x=3",
            "--set arms.first.name.x: arms.first.name = 'first' is a single value and has no x;",
        ),
    ],
)
def test_an_assignment_that_leads_nowhere_is_refused(
    authored: dict[str, Any], assignment: str, message: str
) -> None:
    text = refusal(authored, assignment)
    assert text.startswith(message)
    assert len(text) < 300


def test_an_empty_list_has_no_elements_to_set(authored: dict[str, Any]) -> None:
    authored["arms"] = []
    assert refusal(authored, "arms.0.l2=1") == "--set arms.0.l2: no element '0'; there are none"


def test_decode_reads_back_what_canonical_json_wrote(authored: dict[str, Any]) -> None:
    experiment = parse_experiment(yaml.safe_dump(authored), "x")
    assert decode(Experiment, experiment.canonical_json(), "experiment") == experiment
    assert decode(Arm, experiment.arms[1].canonical_json(), "arm") == experiment.arms[1]


@pytest.mark.parametrize("text", ["", "epochs: 3", '{"epochs":', "[" * 100_000])
def test_decode_refuses_what_is_not_json(text: str) -> None:
    with pytest.raises(ExperimentError, match="^training: not JSON: "):
        decode(Training, text, "training")


@pytest.mark.parametrize("text", ["null", "[]", '"x"'])
def test_decode_refuses_json_that_is_no_section(text: str) -> None:
    with pytest.raises(ExperimentError, match="must be a mapping of fields: epochs, "):
        decode(Training, text, "training")


def test_decode_names_the_rule_that_a_section_breaks() -> None:
    with pytest.raises(ExperimentError) as raised:
        decode(Training, json.dumps({"epochs": 0, "global_batch_size": 8}), "training")
    assert str(raised.value) == "training: 1 problem\nepochs = 0: must be greater than or equal to 1"


def test_validate_takes_unions_of_models() -> None:
    with pytest.raises(ExperimentError) as raised:
        validate(Arm, {"name": "a", "optimizer": "sgd", "learning_rate": {"schedule": "constant"}}, "arm")
    assert str(raised.value) == "arm: 1 problem\nlearning_rate.base: is required"
