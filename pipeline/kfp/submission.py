"""What a run on Kubeflow Pipelines needs: pipeline, version and experiment; and the requests for them."""

import dataclasses
import datetime
import hashlib
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from optduel.components.core import ClusterError
from optduel.components.decoding import parse_object
from optduel.components.settings import Deployment, Experiment, canonical_json
from optduel.components.storage import join
from optduel.pipeline.graph.definition import compiled
from optduel.pipeline.kfp.connection import Connection, named

_LONGEST = 255
"""Characters that the database of Kubeflow Pipelines keeps of the description of a run, recurring run or
experiment; a longer one is refused. Those of pipelines and their versions may be of any length."""

_AUTHORED = "\nauthored: "

_SHORT = 12
"""Hexadecimal characters of a hash: enough to tell versions apart, and to read."""


@dataclass(frozen=True)
class Submission:
    """A compiled experiment with its names.

    Attributes:
        pipeline: name of the pipeline, and of the experiment on Kubeflow Pipelines that holds its runs.
        version: the size of the study and where it runs, for a person; the experiment's fingerprint; and the
            hash of all that was compiled: another image or deployment makes another version.
        run: the run's name.
        about: what is compared; of pipeline, experiment, run and recurring run.
        description: the same with settings and how they were given; of the version.
        parameters: of the run; all but `root` are only shown.
        pipeline_root: of the run's artifacts. What is compiled of it the server ignores.
        package: the compiled pipeline.
    """

    pipeline: str
    version: str
    run: str
    about: str
    description: str
    parameters: Mapping[str, str]
    pipeline_root: str
    package: bytes

    @property
    def digest(self) -> str:
        """SHA-256 of the compiled pipeline."""
        return hashlib.sha256(self.package).hexdigest()

    def pipeline_body(self, namespace: str | None) -> dict[str, Any]:
        """Creates the pipeline."""
        names = {"name": self.pipeline, "display_name": self.pipeline, "description": self.about}
        return _known({**names, "namespace": namespace})

    def experiment_body(self, namespace: str | None) -> dict[str, Any]:
        """Creates the experiment."""
        names = {"display_name": self.pipeline, "description": self.about}
        return _known({**names, "namespace": namespace})

    def run_body(self, pipeline_id: str, version_id: str, experiment_id: str) -> dict[str, Any]:
        """Creates the run."""
        return {
            "display_name": self.run,
            "description": self.about,
            "experiment_id": experiment_id,
            **self._what(pipeline_id, version_id),
        }

    def schedule_body(
        self,
        name: str,
        cron: str,
        enabled: bool,
        start: datetime.datetime | None,
        pipeline_id: str,
        version_id: str,
        experiment_id: str,
    ) -> dict[str, Any]:
        """Creates the recurring run: of this version, one run at a time, missed ones left out.

        Args:
            start: no run begins before it.
        """
        begins = {"start_time": start.isoformat(timespec="seconds")} if start else {}
        return {
            "display_name": name,
            "description": self.about,
            "experiment_id": experiment_id,
            **self._what(pipeline_id, version_id),
            "trigger": {"cron_schedule": {**begins, "cron": cron}},
            "mode": "ENABLE" if enabled else "DISABLE",
            "max_concurrency": "1",
            "no_catchup": True,
        }

    def _what(self, pipeline_id: str, version_id: str) -> dict[str, Any]:
        reference = {"pipeline_id": pipeline_id, "pipeline_version_id": version_id}
        config = {"parameters": dict(self.parameters), "pipeline_root": self.pipeline_root}
        return {"pipeline_version_reference": reference, "runtime_config": config}


def prepare(
    experiment: Experiment, deployment: Deployment, authored: Mapping[str, Any] = MappingProxyType({})
) -> Submission:
    """Compiles an experiment for a deployment and names it; contacts nobody.

    Args:
        authored: what experiment and deployment were made of, as `authored_of` gives it back.
    """
    from optduel.pipeline.graph.definition import description, pipeline_name, run_parameters

    package = compiled(experiment, deployment)
    stamp = datetime.datetime.now(datetime.UTC).strftime("%Y%m%dT%H%M%SZ")
    about, parameters = description(experiment), run_parameters(experiment, deployment)
    kind = deployment.job.kind if deployment.job else "pod"
    seeds, epochs = len(experiment.study.seeds), experiment.training.epochs
    digest = hashlib.sha256(package).hexdigest()
    settings = "; ".join(f"{name} {value}" for name, value in parameters.items())
    return Submission(
        pipeline=pipeline_name(experiment),
        version=f"{seeds}-seeds-{epochs}-epochs-{kind}-{experiment.fingerprint[:_SHORT]}-{digest[:_SHORT]}",
        run=f"{experiment.name}-{stamp}",
        about=about if len(about) <= _LONGEST else f"{about[: _LONGEST - 3]}...",
        description=f"{about} {settings}{_AUTHORED}{canonical_json(dict(authored))}",
        parameters=parameters,
        # Below the root, so that one permission and one network path serve records, models and artifacts.
        pipeline_root=join(deployment.root, "pipelines"),
        package=package,
    )


def authored_of(description: str) -> dict[str, Any] | None:
    """What a version was made of, by its description; None where this is not told."""
    _, _, text = description.rpartition(_AUTHORED)
    try:
        return parse_object(text) or None
    except ValueError:
        return None


def _known(body: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in body.items() if value is not None}


@dataclasses.dataclass(frozen=True)
class Placed:
    """Where a submission is kept: KFP's identifiers of pipeline, version and experiment."""

    pipeline_id: str
    version_id: str
    experiment_id: str


@dataclasses.dataclass(frozen=True)
class Submitted:
    """A run that has been created.

    Attributes:
        address: of its page, if the UI's address is known.
    """

    run_id: str
    name: str
    pipeline: str
    version: str
    address: str | None


def submit(connection: Connection, submission: Submission) -> Submitted:
    """Creates the run, and before it what is missing of pipeline, version and experiment.

    Raises:
        ClusterError: the server does not answer, is too old, or refuses.
    """
    connection.open()
    placed = place(connection, submission)
    body = submission.run_body(*dataclasses.astuple(placed))
    run = connection.call("create a run", "runs", "run_service_create_run", run=body)
    return Submitted(
        run_id=run.run_id,
        name=submission.run,
        pipeline=submission.pipeline,
        version=submission.version,
        address=connection.page(f"runs/details/{run.run_id}"),
    )


def place(connection: Connection, submission: Submission) -> Placed:
    """Creates what is missing of pipeline, version and experiment.

    Raises:
        ClusterError: the server does not answer, or refuses.
    """
    pipeline_id = _pipeline(connection, submission)
    return Placed(
        pipeline_id, _version(connection, submission, pipeline_id), _experiment(connection, submission)
    )


def _pipeline(connection: Connection, submission: Submission) -> str:
    def find() -> Any:
        return connection.call(
            "look for the pipeline",
            "pipelines",
            "pipeline_service_get_pipeline_by_name",
            none_for=(404,),
            name=submission.pipeline,
            namespace=connection.namespace,
        )

    def create() -> Any:
        body = submission.pipeline_body(connection.namespace)
        return connection.call(
            "create a pipeline",
            "pipelines",
            "pipeline_service_create_pipeline",
            none_for=(409,),
            pipeline=body,
        )

    what = f"pipeline {submission.pipeline}"
    return _found_or_made(connection, what, "pipeline_id", find, create)


def _version(connection: Connection, submission: Submission, pipeline_id: str) -> str:
    def find() -> Any:
        versions = connection.pages(
            "list the pipeline's versions",
            "pipelines",
            "pipeline_service_list_pipeline_versions",
            "pipeline_versions",
            pipeline_id=pipeline_id,
            filter=named(submission.version),
        )
        return next((one for one in versions if one.display_name == submission.version), None)

    def upload() -> Any:
        with tempfile.TemporaryDirectory(prefix="optduel-") as scratch:
            path = Path(scratch) / "pipeline.yaml"
            path.write_bytes(submission.package)
            return connection.call(
                "upload a pipeline version",
                "pipeline_uploads",
                "upload_pipeline_version",
                none_for=(409,),
                uploadfile=str(path),
                name=submission.version,
                pipelineid=pipeline_id,
                description=submission.description,
            )

    what = f"version {submission.version}"
    return _found_or_made(connection, what, "pipeline_version_id", find, upload)


def _experiment(connection: Connection, submission: Submission) -> str:
    def find() -> Any:
        experiments = connection.pages(
            "list experiments",
            "experiments",
            "experiment_service_list_experiments",
            "experiments",
            filter=named(submission.pipeline),
            **connection.scope(),
        )
        return next((one for one in experiments if one.display_name == submission.pipeline), None)

    def create() -> Any:
        body = submission.experiment_body(connection.namespace)
        return connection.call(
            "create an experiment",
            "experiments",
            "experiment_service_create_experiment",
            none_for=(409,),
            experiment=body,
        )

    what = f"experiment {submission.pipeline}"
    return _found_or_made(connection, what, "experiment_id", find, create)


def _found_or_made(
    connection: Connection, what: str, field: str, find: Callable[[], Any], make: Callable[[], Any]
) -> str:
    """The identifier of what the server had, or made, or has said that it has: somebody else was faster."""
    found = find() or make() or find()
    identifier: str | None = getattr(found, field, None)
    if not identifier:
        raise ClusterError(f"{connection.host}: {what}: exists, but cannot be found; try again, or rename it")
    return identifier
