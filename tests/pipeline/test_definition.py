"""The compiled graph: its meaning, its images, its bytes."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from google.protobuf import json_format
from kfp.pipeline_spec import pipeline_spec_pb2

from components.core.experiment import Experiment
from pipeline.compiling import compile_pipeline
from pipeline.shipped import load_experiment

IMAGE = "registry.example/optduel@sha256:" + "0" * 64
THREE_ARMS = (
    "arms=[{name: a, optimizer: sgd, learning_rate: {schedule: constant, base: 0.1}},"
    "{name: b, optimizer: adamw, learning_rate: {schedule: constant, base: 0.1}},"
    "{name: c, optimizer: adam, learning_rate: {schedule: constant, base: 0.1}}]"
)


def compiled(tmp_path: Path, *assignments: str) -> dict[str, Any]:
    path = tmp_path / "pipeline.yaml"
    compile_pipeline(load_experiment("digits", assignments), IMAGE, path)
    document: dict[str, Any] = yaml.safe_load(path.read_text())
    return document


def tasks_of(component: dict[str, Any]) -> dict[str, Any]:
    tasks: dict[str, Any] = component["dag"]["tasks"]
    return tasks


def test_pipeline_is_valid_against_kfps_own_schema(tmp_path: Path) -> None:
    document = compiled(tmp_path)
    spec = json_format.ParseDict(document, pipeline_spec_pb2.PipelineSpec())
    assert spec.pipeline_info.name == "optduel-digits"
    assert [*spec.root.input_definitions.parameters] == ["root"]


def test_compiling_twice_gives_the_same_bytes(tmp_path: Path) -> None:
    experiment = load_experiment("digits")
    for name in ("one.yaml", "two.yaml"):
        compile_pipeline(experiment, IMAGE, tmp_path / name)
    assert (tmp_path / "one.yaml").read_bytes() == (tmp_path / "two.yaml").read_bytes()


def test_every_task_runs_in_the_given_image_and_installs_nothing(tmp_path: Path) -> None:
    executors = compiled(tmp_path)["deploymentSpec"]["executors"]
    assert len(executors) == 9
    for executor in executors.values():
        assert executor["container"]["image"] == IMAGE
        assert "pip install" not in " ".join(executor["container"]["command"])


def test_graph_trains_and_evaluates_each_arm_over_the_seeds(tmp_path: Path) -> None:
    document = compiled(tmp_path)
    root = tasks_of(document["root"])
    loops = {name: task for name, task in root.items() if "parameterIterator" in task}
    assert [task["taskInfo"]["name"] for task in loops.values()] == ["sgd-l2-seeds", "adamw-seeds"]
    for task in loops.values():
        items = task["parameterIterator"]["items"]["raw"]
        assert json.loads(items) == [0, 1, 2, 3, 4, 5]
        assert task["dependentTasks"] == ["prepare"]
        body = tasks_of(document["components"][task["componentRef"]["name"]])
        arm = task["taskInfo"]["name"].removesuffix("-seeds")
        assert {inner["taskInfo"]["name"] for inner in body.values()} == {f"train {arm}", f"evaluate {arm}"}
    names = {task["taskInfo"]["name"] for task in root.values()}
    assert {"prepare", "collect sgd-l2", "collect adamw", "compare", "report"} <= names


def test_arms_are_data(tmp_path: Path) -> None:
    root = tasks_of(compiled(tmp_path, THREE_ARMS)["root"])
    names = [task["taskInfo"]["name"] for task in root.values()]
    assert {"a-seeds", "b-seeds", "c-seeds", "collect a", "collect b", "collect c"} <= set(names)


def test_only_records_are_cached(tmp_path: Path) -> None:
    document = compiled(tmp_path)
    dags = [document["root"], *(part for part in document["components"].values() if "dag" in part)]
    cached = {
        task["taskInfo"]["name"]
        for dag in dags
        for task in tasks_of(dag).values()
        if task.get("cachingOptions", {}).get("enableCache")
    }
    assert cached - {"sgd-l2-seeds", "adamw-seeds"} == {"prepare"}


def parameters_of(document: dict[str, Any], prefix: str) -> list[dict[str, Any]]:
    dags = [document["root"], *(part for part in document["components"].values() if "dag" in part)]
    return [
        task["inputs"]["parameters"]
        for dag in dags
        for name, task in tasks_of(dag).items()
        if name.startswith(prefix)
    ]


def test_task_gets_its_own_section_only(tmp_path: Path) -> None:
    """So that a new learning rate, or more seeds, leaves the prepared records valid."""
    before = compiled(tmp_path)
    after = compiled(
        tmp_path, "arms.adamw.learning_rate.base=0.5", "training.epochs=99", "study.seeds=[0,1,2]"
    )
    assert parameters_of(before, "prepare") == parameters_of(after, "prepare")
    assert parameters_of(before, "train") != parameters_of(after, "train")
    recoloured = compiled(tmp_path, "data.split.seed=1")
    assert parameters_of(before, "prepare") != parameters_of(recoloured, "prepare")


@pytest.mark.parametrize("name", ["digits", "flowers", "tutorial"])
def test_every_shipped_experiment_compiles(name: str, tmp_path: Path) -> None:
    experiment: Experiment = load_experiment(name)
    compile_pipeline(experiment, IMAGE, tmp_path / "p.yaml")
    assert yaml.safe_load((tmp_path / "p.yaml").read_text())["pipelineInfo"]["name"] == f"optduel-{name}"
