"""Whether those run that a run depends on: controllers, and the webhooks that admit its jobs."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from optduel.components.kubernetes import Api, JsonObject
from optduel.components.settings import Deployment
from optduel.pipeline.doctor.checks import Check, failed, ok, skipped

_OF_EVERY_RUN = ("workflow-controller", "ml-pipeline-persistenceagent")
"""Patterns of the Deployments' names, as their manifests and charts have them."""


@dataclass(frozen=True)
class Controlled:
    """A kind of job, as its controllers see it.

    Attributes:
        controllers: patterns of the names of their Deployments.
        parts: what a job is made of: API group and resource.
    """

    controllers: tuple[str, ...]
    parts: frozenset[tuple[str, str]]


CONTROLLED = {
    "trainjob": Controlled(
        (r"([\w-]+-)?trainer-controller-manager", r"jobset-controller(-manager)?"),
        frozenset({("trainer.kubeflow.org", "trainjobs"), ("jobset.x-k8s.io", "jobsets")}),
    ),
    "tfjob": Controlled((r"([\w-]+-)?training-operator",), frozenset({("kubeflow.org", "tfjobs")})),
}
"""By the kind in the deployment."""


def examine_controllers(api: Api, deployment: Deployment) -> Check:
    """Looks at the Deployments of Kubeflow Pipelines and of the training operator.

    Raises:
        ApiFailure: they cannot be listed.
    """
    wanted = (*_OF_EVERY_RUN, *(CONTROLLED[deployment.job.kind].controllers if deployment.job else ()))
    found: list[str] = []
    down = []
    for one in api.read_all("/apis/apps/v1/deployments"):
        name, replicas = one["metadata"]["name"], int(one["spec"].get("replicas", 1))
        if any(re.fullmatch(pattern, name) for pattern in wanted):
            found.append(name)
            ready = int(one.get("status", {}).get("readyReplicas") or 0)
            if not ready:
                where = f"{one['metadata']['namespace']}/{name}"
                down.append(f"Deployment {where}: {ready} of {replicas} replicas are ready")
    if down:
        return failed(
            "controllers",
            f"{'; '.join(down)}: runs would wait for it without end; scale it up, or look why its pods do "
            "not start (kubectl --namespace NAMESPACE describe deployments,pods)",
        )
    if not found:
        return skipped("controllers", "no Deployment has one of the names that are known")
    return ok("controllers", f"ready: {', '.join(sorted(found))}")


def examine_webhooks(api: Api, kind: str) -> Check:
    """Looks whether the webhooks answer that see every job, and what it is made of.

    Args:
        kind: of the jobs.

    Raises:
        ApiFailure: they, or the endpoints of their services, cannot be read.
    """
    silent, count = [], 0
    for webhook in _webhooks(api, kind):
        count += 1
        client = webhook["clientConfig"]
        service = client["service"]
        where = f"{service['namespace']}/{service['name']}"
        if not client.get("caBundle"):
            silent.append(f"{webhook['name']} has no certificate (caBundle) yet")
        elif not _has_ready_endpoint(api, service["namespace"], service["name"]):
            silent.append(f"{webhook['name']} is served by {where}, which has no ready pod")
    if silent:
        return failed(
            "webhooks",
            f"{'; '.join(silent)}: every job would be refused; start that Deployment, or install the "
            "operator anew",
        )
    if not count:
        return skipped("webhooks", "no webhook looks at training jobs")
    return ok("webhooks", f"{count} webhooks that look at training jobs have ready pods")


def _webhooks(api: Api, kind: str) -> Iterator[JsonObject]:
    """Those whose silence refuses a job of the kind, and that a service in the cluster serves."""
    for plural in ("validatingwebhookconfigurations", "mutatingwebhookconfigurations"):
        for configuration in api.read_all(f"/apis/admissionregistration.k8s.io/v1/{plural}"):
            for webhook in configuration.get("webhooks") or ():
                seen = {
                    (group, resource)
                    for rule in webhook.get("rules") or ()
                    for group in rule.get("apiGroups") or ()
                    for resource in rule.get("resources") or ()
                }
                is_strict = webhook.get("failurePolicy", "Fail") == "Fail"
                if seen & CONTROLLED[kind].parts and is_strict and webhook["clientConfig"].get("service"):
                    yield webhook


def _has_ready_endpoint(api: Api, namespace: str, service: str) -> bool:
    slices = api.read_all(
        f"/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices",
        labels=f"kubernetes.io/service-name={service}",
    )
    # As Kubernetes has it, a condition that is not told counts as true.
    return any(
        (endpoint.get("conditions") or {}).get("ready") is not False
        for one in slices
        for endpoint in one.get("endpoints") or ()
    )
