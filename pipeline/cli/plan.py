"""Shows what would be sent to Kubeflow Pipelines, without sending it."""

import json
import sys
import urllib.parse
from typing import Any

from optduel.pipeline.kfp.submission import Submission

_API = "/apis/v2beta1"
_PLACED = ("<pipeline_id>", "<pipeline_version_id>", "<experiment_id>")
"""What only answers tell."""

Plan = list[dict[str, Any]]


def run_plan(submission: Submission, namespace: str | None) -> Plan:
    """The requests that make a run where nothing of it is there yet; in angle brackets what answers tell.

    Args:
        namespace: of the profile, where there are any.
    """
    return [*_place(submission, namespace), _post("runs", submission.run_body(*_PLACED))]


def schedule_plan(submission: Submission, name: str, cron: str, enabled: bool, namespace: str | None) -> Plan:
    """The same for a recurring run."""
    body = submission.schedule_body(name, cron, enabled, *_PLACED)
    return [*_place(submission, namespace), _post("recurringruns", body)]


def print_plan(plan: Plan, submission: Submission, as_json: bool) -> None:
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


def _place(submission: Submission, namespace: str | None) -> Plan:
    file = {"uploadfile": {"sha256": submission.digest, "bytes": len(submission.package)}}
    query = {"name": submission.version, "pipelineid": _PLACED[0], "description": submission.description}
    return [
        _post("pipelines", submission.pipeline_body(namespace)),
        {**_post("pipelines/upload_version", file), "query": query},
        _post("experiments", submission.experiment_body(namespace)),
    ]


def _post(path: str, body: dict[str, Any]) -> dict[str, Any]:
    return {"method": "POST", "path": f"{_API}/{path}", "body": body}
