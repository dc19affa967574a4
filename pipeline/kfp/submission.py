"""What a run on Kubeflow Pipelines needs: pipeline, version and experiment; and the requests for them."""

import datetime
import hashlib
from dataclasses import dataclass
from typing import Any

from optduel.components.settings.deployment import Deployment
from optduel.components.settings.experiment import Experiment
from optduel.pipeline.graph.compiling import compiled

_SHORT = 12
"""Hexadecimal characters of a hash: enough to tell versions apart, and to read."""


@dataclass(frozen=True)
class Submission:
    """A compiled experiment with its names.

    Attributes:
        pipeline: name of the pipeline, and of the experiment on Kubeflow Pipelines that holds its runs.
        version: the experiment's fingerprint, then the hash of all that was compiled: another image or
            deployment makes another version.
        run: the run's name.
        description: of the version.
        package: the compiled pipeline.
    """

    pipeline: str
    version: str
    run: str
    description: str
    package: bytes

    @property
    def digest(self) -> str:
        """SHA-256 of the compiled pipeline."""
        return hashlib.sha256(self.package).hexdigest()

    def pipeline_body(self, namespace: str | None) -> dict[str, Any]:
        """Creates the pipeline."""
        return _known({"name": self.pipeline, "display_name": self.pipeline, "namespace": namespace})

    def experiment_body(self, namespace: str | None) -> dict[str, Any]:
        """Creates the experiment."""
        return _known({"display_name": self.pipeline, "namespace": namespace})

    def run_body(self, pipeline_id: str, version_id: str, experiment_id: str) -> dict[str, Any]:
        """Creates the run."""
        return {
            "display_name": self.run,
            "experiment_id": experiment_id,
            **_reference(pipeline_id, version_id),
        }

    def schedule_body(
        self, name: str, cron: str, enabled: bool, pipeline_id: str, version_id: str, experiment_id: str
    ) -> dict[str, Any]:
        """Creates the recurring run: of this version, one run at a time, missed ones left out."""
        return {
            "display_name": name,
            "description": self.description,
            "experiment_id": experiment_id,
            **_reference(pipeline_id, version_id),
            "trigger": {"cron_schedule": {"cron": cron}},
            "mode": "ENABLE" if enabled else "DISABLE",
            "max_concurrency": "1",
            "no_catchup": True,
        }


def prepare(experiment: Experiment, deployment: Deployment) -> Submission:
    """Compiles an experiment for a deployment and names it; contacts nobody."""
    from optduel.pipeline.graph.definition import pipeline_name

    package = compiled(experiment, deployment)
    stamp = datetime.datetime.now(datetime.UTC).strftime("%Y%m%dT%H%M%SZ")
    return Submission(
        pipeline=pipeline_name(experiment),
        version=f"{experiment.fingerprint[:_SHORT]}-{hashlib.sha256(package).hexdigest()[:_SHORT]}",
        run=f"{experiment.name}-{stamp}",
        description=f"{experiment.title}; fingerprint {experiment.fingerprint}; image {deployment.image}",
        package=package,
    )


def _reference(pipeline_id: str, version_id: str) -> dict[str, Any]:
    reference = {"pipeline_id": pipeline_id, "pipeline_version_id": version_id}
    return {"pipeline_version_reference": reference, "runtime_config": {"parameters": {}}}


def _known(body: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in body.items() if value is not None}
