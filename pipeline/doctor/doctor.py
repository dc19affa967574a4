"""Checks a cluster before anything is spent on it; every failure comes with its remedy."""

import contextlib
import os
import uuid
from collections.abc import Iterator

from optduel.components.core import ClusterError, OptduelError
from optduel.components.settings import Deployment
from optduel.components.storage import ENDPOINT_VARIABLES, SECONDS_VARIABLE, delete, join, publish, read
from optduel.pipeline.doctor.checks import Check, failed, ok, skipped
from optduel.pipeline.kfp.connection import Access, Connection, Health

_STORAGE_SECONDS = "20"
"""So long may each of the probe's three operations take, unless the environment says otherwise."""

_STANDALONE_NAMESPACE = "kubeflow"

_KUBEFLOW_BUCKET = "minio://mlpipeline/"
"""Of Kubeflow's own store; the profile controller gives each profile a key to a part of it."""


def examine(access: Access, deployment: Deployment, workers: int) -> Iterator[Check]:
    """Makes all checks, in the order in which a run needs what they look at.

    Args:
        access: to Kubeflow Pipelines.
        deployment: what is going to run there.
        workers: of each training job.
    """
    from optduel.pipeline.doctor.cluster import examine_kubernetes

    namespace, account = access.namespace or _STANDALONE_NAMESPACE, "pipeline-runner"
    profile = None
    try:
        connection = Connection(access)
        health = connection.open()
    except OptduelError as error:
        yield failed("kubeflow pipelines", error)
    else:
        yield _pipelines(connection, health)
        yield _identity(connection)
        if profile := connection.namespace:
            namespace, account = profile, "default-editor"
    yield from examine_kubernetes(access.kube_context, namespace, account, deployment, workers)
    yield _storage(deployment, profile)


def _pipelines(connection: Connection, health: Health) -> Check:
    detail = f"{connection.host}, version {health.version}"
    if connection.namespace:
        detail += f", profile {connection.namespace}"
    if health.release is None:
        return skipped(
            "kubeflow pipelines",
            f"{detail}: answers, but does not tell its release; optduel is tested with 2.17",
        )
    return ok("kubeflow pipelines", detail)


def _identity(connection: Connection) -> Check:
    """The version is told to anybody; a list is not."""
    try:
        connection.call("list runs", "runs", "run_service_list_runs", page_size=1, **connection.scope())
    except ClusterError as error:
        return failed("identity", error)
    return ok("identity", "may list runs")


def _storage(deployment: Deployment, profile: str | None) -> Check:
    """Writes, reads and deletes an object below the root, with this machine's credentials."""
    name, root = "storage root", deployment.root
    if profile and _is_closed(deployment, profile):
        return failed(
            name,
            f"root = {root}: Kubeflow's own store does not open it to the key of profile {profile}; "
            f"give --root {_KUBEFLOW_BUCKET}private-artifacts/{profile}/optduel",
        )
    inside = root.startswith("minio://") and not any(os.environ.get(one) for one in ENDPOINT_VARIABLES)
    if inside and "KUBERNETES_SERVICE_HOST" not in os.environ:
        return skipped(
            name,
            f"{root}: lies in the cluster's own store, which this machine cannot see; to check it from here, "
            f"forward its port and set {ENDPOINT_VARIABLES[1]}, AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
        )
    probe = join(root, f"doctor-{uuid.uuid4().hex}")
    with _patience():
        try:
            publish(probe, b"optduel doctor", if_absent=True)
            try:
                read(probe)
            finally:
                delete(probe)
        except OptduelError as error:
            return failed(name, error)
    return ok(name, f"{root}: wrote, read and deleted an object, from this machine with its credentials")


def _is_closed(deployment: Deployment, profile: str) -> bool:
    """Whether the root lies in Kubeflow's own bucket, but where a profile's key opens nothing."""
    parts = ("artifacts/", "shared/", f"private-artifacts/{profile}/", f"private/{profile}/")
    opened = tuple(_KUBEFLOW_BUCKET + part for part in parts)
    place = f"{deployment.root}/"
    is_kubeflows = deployment.environment.keys().isdisjoint(ENDPOINT_VARIABLES)
    return is_kubeflows and place.startswith(_KUBEFLOW_BUCKET) and not place.startswith(opened)


@contextlib.contextmanager
def _patience() -> Iterator[None]:
    given = os.environ.get(SECONDS_VARIABLE)
    os.environ.setdefault(SECONDS_VARIABLE, _STORAGE_SECONDS)
    try:
        yield
    finally:
        if given is None:
            del os.environ[SECONDS_VARIABLE]
