"""The retraining graph as it is compiled: what waits for what, and what no branch lets out."""

from typing import Any

import pytest
import yaml

from optduel.pipeline.cli.shipped import load_deployment, load_experiment
from optduel.pipeline.graph.definition import compiled

ALERTS = "alerts={secret_name: alerts}"


def root_of(mode: str, *deploy: str, tuned: bool = False) -> tuple[dict[str, Any], dict[str, Any]]:
    """The specification, and the tasks beside `prepare`: within the exit handler where there is one."""
    settings = [f"retraining={{champion: weekly, mode: {mode}}}", *([] if tuned else ["tuning=null"])]
    experiment = load_experiment("digits", settings)
    deployment = load_deployment("pod", ['image="registry/optduel:1"', 'root="gs://bucket/x"', *deploy])
    specification = next(yaml.load_all(compiled(experiment, deployment), yaml.CSafeLoader))
    tasks = specification["root"]["dag"]["tasks"]
    if "decide" not in tasks:
        (body,) = [name for name in specification["components"] if name.startswith("comp-exit-handler")]
        tasks = specification["components"][body]["dag"]["tasks"]
    return specification, tasks


def branch(specification: dict[str, Any], tasks: dict[str, Any], holding: str) -> dict[str, Any]:
    """The tasks of the branch that holds one of this name."""
    waiting = list(tasks.values())
    while waiting:
        component = specification["components"][waiting.pop()["componentRef"]["name"]]
        inner = component.get("dag", {}).get("tasks", {})
        if holding in inner:
            found: dict[str, Any] = inner
            return found
        waiting += inner.values()
    raise AssertionError(f"no branch holds {holding}")


@pytest.mark.parametrize("deploy", [(), (ALERTS,)], ids=["plain", "alerts"])
def test_a_candidate_is_trained_judged_and_promoted_within_one_branch(deploy: tuple[str, ...]) -> None:
    specification, tasks = root_of("candidate", *deploy)
    training = branch(specification, tasks, "gate")
    assert set(training) == {"train", "evaluate", "evaluate-champion", "gate", "promote"}
    assert set(training["gate"]["dependentTasks"]) == {"evaluate", "evaluate-champion"}
    assert training["promote"]["dependentTasks"] == ["gate"]
    sections = training["train"]["inputs"]["parameters"]["sections"]
    assert sections["componentInputParameter"].endswith("decide-sections"), "known when the run decides"
    assert set(branch(specification, tasks, "skip")) == {"skip"}


def test_the_branches_exclude_one_another_and_nothing_else_waits_for_them() -> None:
    specification, tasks = root_of("candidate")
    assert "gate" not in str(tasks["decide"].get("dependentTasks", []))
    conditions = [
        task["triggerPolicy"]["condition"]
        for component in [specification["root"], *specification["components"].values()]
        for task in component.get("dag", {}).get("tasks", {}).values()
        if "triggerPolicy" in task
    ]
    positive = "inputs.parameter_values['pipelinechannel--decide-Output'] == 'train'"
    assert sorted(conditions) == sorted([positive, f"!({positive})"])
    assert [name for name, task in tasks.items() if "condition" in str(task.get("dependentTasks"))] == []


def test_a_study_is_compared_before_the_gate_asks() -> None:
    specification, tasks = root_of("study")
    training = branch(specification, tasks, "gate")
    assert {"sgd-l2", "adamw", "compare", "report", "evaluate-champion", "gate", "promote"} <= set(training)
    assert set(training["gate"]["dependentTasks"]) == {"report", "evaluate-champion"}
    assert training["gate"]["inputs"]["parameters"]["sections"]["runtimeValue"]["constant"] == ""


def test_a_study_is_tuned_within_the_branch_and_what_was_chosen_reaches_the_arms_there() -> None:
    specification, tasks = root_of("study", ALERTS, tuned=True)
    training = branch(specification, tasks, "gate")
    assert set(training["choose"]["dependentTasks"]) == {"tune-sgd-l2", "tune-adamw"}
    for arm in ("sgd-l2", "adamw"):
        chosen = training[arm]["inputs"]["parameters"]["chosen"]["taskOutputParameter"]
        assert chosen == {"outputParameterKey": "Output", "producerTask": "choose"}
    assert set(training["gate"]["dependentTasks"]) == {"report", "evaluate-champion"}
    inside, _ = root_of("candidate", tuned=True)
    assert "choose" not in str(sorted(inside["components"])), "a candidate is not tuned"


def test_no_task_of_a_retraining_is_cached() -> None:
    specification, tasks = root_of("candidate")
    training = branch(specification, tasks, "gate")
    every = [*training.values(), *branch(specification, tasks, "skip").values(), tasks["decide"]]
    assert [task for task in every if task.get("cachingOptions", {}).get("enableCache")] == []
