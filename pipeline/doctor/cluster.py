"""The doctor's checks of Kubernetes, in the order in which a run needs what they look at."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from optduel.components.core import OptduelError, StopRequest
from optduel.components.kubernetes import (
    Api,
    ApiFailure,
    Forbidden,
    JsonObject,
    NotFound,
    Timing,
    connect,
)
from optduel.components.settings import WORKER_PORT, Deployment, Job
from optduel.components.train.contract.task import WORKER_MODULE
from optduel.pipeline.doctor.capacity import examine_capacity
from optduel.pipeline.doctor.checks import Check, failed, ok, skipped
from optduel.pipeline.doctor.controllers import examine_controllers, examine_webhooks

OLDEST_TRAINER = (2, 2)

_TIMING = Timing(answer=15.0, away=0.0, refusal=0.0)
"""Each request is made once: what does not answer in time is told."""

_NO_ANSWER = "check the kubeconfig's context and the VPN"

_APPLY = "apply the manifests (kubectl apply -k manifests/overlays/...)"
_ROLE = "optduel-launcher"
"""The launcher's Role, and its binding to the steps' service account."""

_LAUNCHER_READS = (
    ("get", "", "pods"),
    ("list", "", "pods"),
    ("watch", "", "pods"),
    ("get", "", "pods/log"),
    ("list", "", "events"),
    ("get", "argoproj.io", "workflows"),
)
_JOB_VERBS = ("create", "get", "list", "watch", "delete")


def launcher_permissions(kind: str) -> list[tuple[str, str, str]]:
    """What the launcher calls: verb, API group, and resource, a subresource after a slash."""
    operator = OPERATORS[kind]
    return [(verb, operator.group, operator.resource) for verb in _JOB_VERBS] + list(_LAUNCHER_READS)


def examine_kubernetes(
    context: str | None, namespace: str, account: str, deployment: Deployment, workers: int
) -> Iterator[Check]:
    """Makes the checks.

    Args:
        context: of the kubeconfig file.
        namespace: where the steps run.
        account: the steps' service account.
        deployment: what is going to run.
        workers: of each training job.
    """
    try:
        api = connect(_TIMING, StopRequest(), remedy=_NO_ANSWER, context=context)
        version = api.read("/version")
    except (OptduelError, ApiFailure) as error:
        yield failed("kubernetes", _in_words(error))
        return
    yield ok("kubernetes", f"{api.host}, {version.get('gitVersion', 'version unknown')}")
    for name, check in _checks(api, namespace, account, deployment, workers):
        try:
            yield from check()
        except Forbidden as refusal:
            yield skipped(name, f"you may not look: {refusal.message}")
        except (OptduelError, ApiFailure) as error:
            yield failed(name, _in_words(error))


def _in_words(error: OptduelError | ApiFailure) -> str:
    if isinstance(error, OptduelError):
        return str(error)
    remedy = "renew the kubeconfig's credentials" if error.code == 401 else "try again"
    return f"Kubernetes: {error.code}: {error.message}; {remedy}"


def _found(api: Api, path: str, *, metadata_only: bool = False) -> JsonObject | None:
    """The object at a path, or None where there is none."""
    try:
        return api.read(path, metadata_only=metadata_only)
    except NotFound:
        return None


def _checks(
    api: Api, namespace: str, account: str, deployment: Deployment, workers: int
) -> Iterator[tuple[str, Callable[[], Iterable[Check]]]]:
    """What to look at, with the name of the check that says so where it cannot be looked at."""

    def one(look: Callable[..., Check], *arguments: Any) -> Callable[[], Iterable[Check]]:
        return lambda: [look(*arguments)]

    yield "controllers", one(examine_controllers, api, deployment)
    if job := deployment.job:
        for name, check in OPERATORS[job.kind].checks.items():
            yield name, one(check, api, job)
        yield "webhooks", one(examine_webhooks, api, job.kind)
        yield "permissions", one(_permissions, api, job, namespace, account)
    for secret in deployment.secrets:
        yield f"secret {secret.name}", one(_secret, api, secret.name, namespace, "secrets=[]")
    if alerts := deployment.alerts:
        name = alerts.secret_name
        yield f"secret {name}", one(_secret, api, name, namespace, "alerts=null")
    yield "nodes", lambda: examine_capacity(api, deployment, workers)


def _trainer(api: Api, _: Job) -> Check:
    served = _found(api, "/apis/trainer.kubeflow.org/v1alpha1") or {}
    if "trainjobs" not in {resource["name"] for resource in served.get("resources", [])}:
        oldest = ".".join(map(str, OLDEST_TRAINER))
        return failed(
            "trainer",
            f"no TrainJobs are served; install Kubeflow Trainer {oldest} or newer, or --deployment pod",
        )
    public = _found(api, "/api/v1/namespaces/kubeflow-system/configmaps/kubeflow-trainer-public") or {}
    version = str(public.get("data", {}).get("kubeflow_trainer_version", ""))
    found = re.match(r"v?(\d+)\.(\d+)", version)
    if not version:
        return failed(
            "trainer",
            "publishes no version (ConfigMap kubeflow-system/kubeflow-trainer-public), so it is older than "
            "2.2, or installed elsewhere; upgrade it",
        )
    if found and (int(found[1]), int(found[2])) < OLDEST_TRAINER:
        return failed("trainer", f"Kubeflow Trainer = {version}: must be 2.2 or newer; upgrade it")
    return ok("trainer", f"Kubeflow Trainer {version}")


def _runtime(api: Api, job: Job) -> Check:
    path = f"/apis/trainer.kubeflow.org/v1alpha1/clustertrainingruntimes/{job.runtime}"
    runtime = _found(api, path)
    if runtime is None:
        return failed("runtime", f"ClusterTrainingRuntime {job.runtime}: is not there; {_APPLY}")
    containers = [
        container
        for replicated in runtime["spec"]["template"]["spec"].get("replicatedJobs", [])
        for container in replicated["template"]["spec"]["template"]["spec"].get("containers", [])
        if container["name"] == "node"
    ]
    commands = [word for container in containers for word in container.get("command", [])]
    ports = [port["containerPort"] for container in containers for port in container.get("ports", [])]
    if WORKER_MODULE not in commands or WORKER_PORT not in ports:
        return failed(
            "runtime",
            f"ClusterTrainingRuntime {job.runtime}: its container `node` must run {WORKER_MODULE} with port "
            f"{WORKER_PORT}; {_APPLY}",
        )
    return ok("runtime", f"ClusterTrainingRuntime {job.runtime}")


def _training_operator(api: Api, _: Job) -> Check:
    served = _found(api, "/apis/kubeflow.org/v1") or {}
    if "tfjobs" not in {resource["name"] for resource in served.get("resources", [])}:
        return failed(
            "training operator",
            "no TFJobs are served; install training-operator 1.9, or --deployment trainjob",
        )
    return ok("training operator", "TFJobs are served")


@dataclass(frozen=True)
class Operator:
    """What runs a kind of job, to the doctor.

    Attributes:
        resource: the jobs, of the API group.
        checks: by name, in the order in which they are made.
    """

    group: str
    resource: str
    checks: Mapping[str, Callable[[Api, Job], Check]]


OPERATORS = {
    "trainjob": Operator("trainer.kubeflow.org", "trainjobs", {"trainer": _trainer, "runtime": _runtime}),
    "tfjob": Operator("kubeflow.org", "tfjobs", {"training operator": _training_operator}),
}
"""By the kind in the deployment."""


def _permissions(api: Api, job: Job, namespace: str, account: str) -> Check:
    user = f"system:serviceaccount:{namespace}:{account}"
    whose = f"service account {account} in namespace {namespace}"
    in_place_of = None if _caller(api) == user else user
    try:
        missing = [
            f"{verb} {resource}{'.' if group else ''}{group}"
            for verb, group, resource in launcher_permissions(job.kind)
            if not _may(api, verb, group, resource, namespace, in_place_of)
        ]
    except Forbidden as refusal:
        # What the caller itself may do says nothing about the account.
        return skipped(
            "permissions",
            f"{whose}: you may not ask what it may do: {refusal.message}; have somebody run the doctor who "
            f"may impersonate it, or see `kubectl describe rolebinding {_ROLE} --namespace {namespace}`",
        )
    if missing:
        return failed("permissions", f"{whose}: may not {', '.join(missing)}; {_APPLY}: Role {_ROLE}")
    return ok("permissions", f"{whose}: may do all that the launcher does")


def _caller(api: Api) -> str | None:
    """The caller's name, as a SelfSubjectReview tells; None where that is not known (before 1.28)."""
    body = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
    try:
        answer = api.ask("/apis/authentication.k8s.io/v1/selfsubjectreviews", body)
    except NotFound:
        return None
    return str(answer["status"]["userInfo"]["username"])


def _may(api: Api, verb: str, group: str, resource: str, namespace: str, user: str | None) -> bool:
    """Whether a user may make a request, as a SelfSubjectAccessReview tells; the caller when None."""
    kind, _, part = resource.partition("/")
    wanted = {"verb": verb, "group": group, "resource": kind, "subresource": part, "namespace": namespace}
    body = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": wanted},
    }
    answer = api.ask("/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", body, user)
    return bool(answer["status"]["allowed"])


def _secret(api: Api, name: str, namespace: str, without: str) -> Check:
    check = f"secret {name}"
    if _found(api, f"/api/v1/namespaces/{namespace}/secrets/{name}", metadata_only=True) is None:
        return failed(
            check,
            f"is not in namespace {namespace}; create it, or change the deployment (--deploy {without})",
        )
    return ok(check, f"is in namespace {namespace}; its keys were not read")
