"""The graph hands its report stage the names that the run's tables carry."""

from pathlib import Path
from typing import Any

import yaml
from kfp.compiler import Compiler

from optduel.pipeline.cli.shipped import load_deployment, load_experiment
from optduel.pipeline.graph.definition import build, compile_pipeline


def report_inputs(path: Path) -> dict[str, Any]:
    document = next(yaml.load_all(path.read_text(), yaml.CSafeLoader))
    parameters: dict[str, Any] = document["root"]["dag"]["tasks"]["report"]["inputs"]["parameters"]
    return parameters


def test_on_a_cluster_a_run_is_named_by_kfp_so_that_a_schedules_runs_differ(tmp_path: Path) -> None:
    compile_pipeline(load_experiment("digits"), load_deployment("pod", ["image=i:1"]), tmp_path / "p.yaml")
    inputs = report_inputs(tmp_path / "p.yaml")
    assert inputs["run"] == {"runtimeValue": {"constant": "{{$.pipeline_job_uuid}}"}}
    assert inputs["root"] == {"componentInputParameter": "root"}


def test_a_local_run_is_named_by_its_folder(tmp_path: Path) -> None:
    pipeline = build(load_experiment("digits"), None, "digits-20261123T194910Z")
    Compiler().compile(pipeline, str(tmp_path / "p.yaml"))
    inputs = report_inputs(tmp_path / "p.yaml")
    assert inputs["run"] == {"runtimeValue": {"constant": "digits-20261123T194910Z"}}
