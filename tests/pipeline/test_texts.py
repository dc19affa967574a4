"""Any text of an experiment reaches its task; a deployment's text that would be replaced is refused."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from kfp.local import placeholder_utils

from optduel.components.core import ExperimentError
from optduel.components.settings import Deployment, Experiment, decode, validate
from optduel.pipeline.cli.shipped import load_deployment, load_experiment
from optduel.pipeline.graph.definition import _constant, compiled
from optduel.pipeline.local.run import run_experiment

REPLACED = (
    "{{$}}",
    "{{$.pipeline_job_name}}",
    "{{$.inputs.parameters['experiment']}}",
    "{{channel:task=;name=root;type=String;}}",
    "{{workflow.name}}",
    "{{=sprig.env('HOME')}}",
    "{{{{$}}}}",
    "$(KFP_POD_NAME)",
    "$$(A) costs $$",
    "\\{{$}}",
    "{{$.workspace_path}} /kfp-workspace",
)
PARTS = st.sampled_from([*REPLACED, "{", "}", "$", "\\", '"', "'", "\n", "ü€𝄞", " "])
TEXTS = st.lists(PARTS | st.text(max_size=3), max_size=5).map("".join)


def by_the_kubelet(argument: str) -> str:
    """What Kubernetes makes of a container's argument if every variable is set (core/v1, Container.args)."""
    return re.sub(
        r"\$(\$|\(([^)]*)\))?",
        lambda found: "$" if found[1] == "$" else "replaced" if found[1] else "$",
        argument,
    )


def at_the_task(constant: str) -> str:
    """A parameter as a component receives it: by KFP's own code, and before it Kubernetes'."""
    inputs = {"inputs": {"parameterValues": {"experiment": constant, "root": "/data"}}}
    inputs |= {"outputs": {"outputFile": "/out.json"}}
    through_kubernetes = json.loads(by_the_kubelet(json.dumps(inputs)))
    (received,) = placeholder_utils.replace_placeholders(
        ["{{$}}"], through_kubernetes, "optduel-digits-1", "report", "/pipelines", "1"
    )
    value: str = json.loads(received)["inputs"]["parameterValues"]["experiment"]
    return value


def titled(title: str) -> Experiment:
    source = {"kind": "folder", "path": f"gs://b/{title}"}
    document = load_experiment("digits").model_dump(mode="json")
    document |= {"title": title, "data": document["data"] | {"source": source}}
    return validate(Experiment, document, "x")


@settings(max_examples=200, deadline=None)
@given(TEXTS)
def test_any_text_survives_kubeflow_pipelines_and_kubernetes(title: str) -> None:
    experiment = titled(title)
    received = at_the_task(_constant(experiment.canonical_json()))
    assert decode(Experiment, received, "experiment") == experiment


@pytest.mark.parametrize("name", ["digits", "flowers", "tutorial"])
def test_an_experiment_of_plain_texts_is_sent_byte_for_byte(name: str) -> None:
    text = load_experiment(name).canonical_json()
    assert _constant(text) == text


def test_no_task_of_a_compiled_pipeline_gets_a_text_that_is_replaced() -> None:
    experiment = titled(" ".join(REPLACED))
    where = load_deployment("trainjob", ["image=i:1"])
    pipeline: dict[str, Any] = next(iter(yaml.load_all(compiled(experiment, where), yaml.CSafeLoader)))
    dags = [pipeline["root"], *(part for part in pipeline["components"].values() if "dag" in part)]
    constants = [
        parameter["runtimeValue"]["constant"]
        for dag in dags
        for task in dag["dag"]["tasks"].values()
        for parameter in task["inputs"].get("parameters", {}).values()
        if "runtimeValue" in parameter
    ]
    ours = {"{{$.pipeline_job_uuid}}", "{{$.pipeline_task_uuid}}"}
    texts = [constant for constant in constants if isinstance(constant, str) and constant not in ours]
    assert [text for text in texts if re.search(r"\{\{|\$|/kfp-workspace", text)] == []
    assert experiment in [decode(Experiment, text, "x") for text in texts if '"arms"' in text]
    assert "{{" not in pipeline["pipelineInfo"]["description"]


@pytest.mark.parametrize("text", ["{{workflow.name}}", "$(HOME)", "a$$b", "/kfp-workspace/a"])
@pytest.mark.parametrize(
    ("fields", "path"),
    [
        (lambda text: {"environment": {"A": text}}, "environment.A"),
        (lambda text: {"node_selector": {text: "b"}}, "node_selector."),
        (lambda text: {"tolerations": [{"key": text}]}, "tolerations.0.key"),
        (lambda text: {"secrets": [{"name": "a", "variables": {text: "A"}}]}, "secrets.0.variables."),
        (lambda text: {"root": f"gs://b/{text}"}, "root"),
        (lambda text: {"image": f"i/{text}:1"}, "image"),
    ],
    ids=["environment", "node_selector", "tolerations", "secrets", "root", "image"],
)
def test_a_deployments_text_that_would_be_replaced_is_refused(
    fields: Callable[[str], dict[str, Any]], path: str, text: str
) -> None:
    authored = {"image": "i:1", "root": "gs://b/optduel"} | fields(text)
    with pytest.raises(ExperimentError) as raised:
        validate(Deployment, authored, "mine.yaml")
    assert f"\n{path}" in str(raised.value)
    assert "which Kubeflow Pipelines or Kubernetes replaces" in str(raised.value)


@pytest.mark.parametrize("name", ["{{$}}", "kfp-workspace"])
def test_a_root_that_would_be_replaced_is_refused_before_anything_is_made(name: str, tmp_path: Path) -> None:
    with pytest.raises(ExperimentError, match=r"--root = .*which Kubeflow Pipelines replaces"):
        run_experiment(load_experiment("digits"), str(tmp_path / name))
    assert list(tmp_path.iterdir()) == []
