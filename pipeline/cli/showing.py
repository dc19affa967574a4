"""Puts an experiment in front of a person: all fields, defaults included, and what its decay really means."""

import dataclasses
import json
import sys
import urllib.parse
from typing import TYPE_CHECKING, Any

import yaml

from optduel.components.settings import Decay, Experiment, convert

if TYPE_CHECKING:
    from optduel.pipeline.kfp.submission import Submission

_ROWS = {
    "l2_keras": "L2 coefficient, Keras: adds l2 * sum(w^2) to the loss",
    "l2_torch": "L2 coefficient, torch: adds l2 * w to the gradient",
    "weight_decay": "weight_decay of Keras' and torch's AdamW",
    "paper_lambda": "lambda of arXiv 1711.05101: learning rate * weight_decay",
    "normalized_lambda": "normalized lambda, its appendix B.1",
    "shrink_percent": "shrink of a weight over the run, in percent",
    "time_scale_epochs": "time scale, in epochs",
}


def describe(experiment: Experiment, examples: int | None) -> str:
    """YAML of the whole experiment, its fingerprint, and with `examples` the decay of each arm."""
    fields = in_yaml(experiment.model_dump(mode="json"))
    lines = [fields.rstrip(), f"# fingerprint: {experiment.fingerprint}"]
    if examples is not None:
        lines += ["", f"# decay over {experiment.training.epochs} epochs of {examples} examples"]
        lines += _table(experiment, examples)
    return "\n".join(lines)


def in_yaml(fields: dict[str, Any]) -> str:
    """Fields as a person writes them."""
    text: str = yaml.safe_dump(fields, sort_keys=False, allow_unicode=True)
    return text


def describe_json(experiment: Experiment, examples: int | None) -> dict[str, Any]:
    """The same for machines."""
    answer = {"experiment": experiment.model_dump(mode="json"), "fingerprint": experiment.fingerprint}
    if examples is None:
        return answer
    decays = {name: dataclasses.asdict(decay) for name, decay in _decays(experiment, examples).items()}
    return answer | {"decay": decays}


def _decays(experiment: Experiment, examples: int) -> dict[str, Decay]:
    batch_size, epochs = experiment.training.global_batch_size, experiment.training.epochs
    return {arm.name: convert(arm, examples, batch_size, epochs) for arm in experiment.arms}


def _table(experiment: Experiment, examples: int) -> list[str]:
    decays = _decays(experiment, examples)
    width = max(len(label) for label in _ROWS.values())
    lines = ["# " + " " * width + "".join(f"  {name:>12}" for name in decays)]
    for field, label in _ROWS.items():
        values = [getattr(decay, field) for decay in decays.values()]
        cells = "".join(f"  {'-' if value is None else f'{value:.4g}':>12}" for value in values)
        lines.append(f"# {label:<{width}}{cells}")
    lines += [f"# {name}: {decay.note}" for name, decay in decays.items() if decay.note]
    return lines


_API = "/apis/v2beta1"
_PLACED = ("<pipeline_id>", "<pipeline_version_id>", "<experiment_id>")
"""What only answers tell."""

Plan = list[dict[str, Any]]


def run_plan(submission: "Submission", namespace: str | None) -> Plan:
    """The requests that make a run where nothing of it is there yet; in angle brackets what answers tell.

    Args:
        namespace: the profile's, if this Kubeflow has profiles.
    """
    return [*_place(submission, namespace), _post("runs", submission.run_body(*_PLACED))]


def schedule_plan(
    submission: "Submission", name: str, cron: str, enabled: bool, namespace: str | None
) -> Plan:
    """The same for a recurring run."""
    body = submission.schedule_body(name, cron, enabled, None, *_PLACED)
    return [*_place(submission, namespace), _post("recurringruns", body)]


def print_plan(plan: Plan, submission: "Submission", as_json: bool) -> None:
    """Prints the requests, then the compiled pipeline; or all of it as JSON."""
    package = submission.package.decode()
    if as_json:
        print(json.dumps({"requests": plan, "uploadfile": package}, indent=2, ensure_ascii=False))
        return
    for request in plan:
        query = f"?{urllib.parse.urlencode(request['query'])}" if "query" in request else ""
        print(f"{request['method']} {request['path']}{query}")
        print(json.dumps(request["body"], indent=2, ensure_ascii=False) + "\n")
    print(f"nothing was sent; the uploaded file, SHA-256 {submission.digest}, follows", file=sys.stderr)
    print(package, end="")


def _place(submission: "Submission", namespace: str | None) -> Plan:
    file = {"uploadfile": {"sha256": submission.digest, "bytes": len(submission.package)}}
    query = {"name": submission.version, "pipelineid": _PLACED[0], "description": submission.description}
    return [
        _post("pipelines", submission.pipeline_body(namespace)),
        {**_post("pipelines/upload_version", file), "query": query},
        _post("experiments", submission.experiment_body(namespace)),
    ]


def _post(path: str, body: dict[str, Any]) -> dict[str, Any]:
    return {"method": "POST", "path": f"{_API}/{path}", "body": body}
