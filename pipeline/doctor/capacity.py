"""Whether every task of a run fits some node: processors, memory and accelerators, labels and taints."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from optduel.components.kubernetes import Api, Forbidden, JsonObject, parse_quantity
from optduel.components.settings import Deployment, Resources
from optduel.pipeline.doctor.checks import Check, failed, ok, skipped

Amounts = Mapping[str, Decimal]
"""Of each resource, by its name in Kubernetes; memory in bytes."""

_STAY = {"DaemonSet", "Node"}
"""Owners of pods that are on their node whatever else is: what those request, no task gets."""

_GIB = Decimal(2**30)


@dataclass(frozen=True)
class Node:
    """A node and what it has for tasks.

    Attributes:
        free: allocatable, less what is requested by pods that always stay.
        body: as Kubernetes tells it.
    """

    name: str
    free: Amounts
    body: JsonObject

    def places(self, wanted: Amounts) -> int:
        """How many pods that ask for so much the node takes at the same time."""
        return min(int(self.free.get(name, Decimal(0)) // amount) for name, amount in wanted.items())


def examine_capacity(api: Api, deployment: Deployment, workers: int) -> Iterator[Check]:
    """Checks accelerators, then whether each task fits.

    Nodes that an autoscaler would add do not count, and neither does what other runs use now.

    Args:
        workers: of each training job.

    Raises:
        ApiFailure: the nodes cannot be read.
    """
    nodes, note = _nodes(api)
    training = [node for node in nodes if takes(node.body, deployment)]
    accelerators = _accelerators(deployment, workers if deployment.job else 1, training, len(nodes))
    yield accelerators
    plain = [node for node in nodes if takes(node.body, None)]
    misfits = [
        misfit
        for stage in ("prepare", "evaluate", "report")
        if (misfit := _misfit(stage, getattr(deployment, stage), plain, 1))
    ]
    if accelerators.status != "failed":
        count = workers if deployment.job else 1
        if misfit := _misfit("train", deployment.train, training, count):
            misfits.insert(0, misfit)
    if misfits:
        yield failed("nodes", f"{'; '.join(misfits)}{note}")
    else:
        yield ok("nodes", f"every task fits one of {len(nodes)} nodes; what others use now is left out{note}")


def _nodes(api: Api) -> tuple[list[Node], str]:
    """The nodes, and what is to be said of what is known of them."""
    bodies = api.read_all("/api/v1/nodes")
    staying: dict[str, dict[str, Decimal]] = {}
    note = ""
    try:
        for pod in api.read_all("/api/v1/pods", fields="status.phase!=Succeeded,status.phase!=Failed"):
            owners = {owner["kind"] for owner in pod["metadata"].get("ownerReferences") or ()}
            if owners & _STAY:
                taken = staying.setdefault(pod["spec"].get("nodeName", ""), {})
                for name, amount in _requests(pod).items():
                    taken[name] = taken.get(name, Decimal(0)) + amount
    except Forbidden:
        note = "; you may not list pods, so what DaemonSets take is not known"
    nodes = []
    for body in bodies:
        node = body["metadata"]["name"]
        allocatable = _quantities(body["status"].get("allocatable", {}))
        taken = staying.get(node, {})
        free = {name: amount - taken.get(name, 0) for name, amount in allocatable.items()}
        nodes.append(Node(node, free, body))
    return nodes, note


def _requests(pod: JsonObject) -> Amounts:
    total: dict[str, Decimal] = {}
    for container in pod["spec"].get("containers", ()):
        for name, amount in _quantities(container.get("resources", {}).get("requests") or {}).items():
            total[name] = total.get(name, Decimal(0)) + amount
    return total


def _quantities(written: Mapping[str, Any]) -> Amounts:
    return {name: parse_quantity(amount) for name, amount in written.items()}


def _accelerators(deployment: Deployment, count: int, nodes: list[Node], of: int) -> Check:
    name, wanted = "accelerators", deployment.train
    if not wanted.accelerators:
        return skipped(name, "the deployment asks for none")
    amounts = [int(node.free.get(wanted.accelerator, 0)) for node in nodes]
    places = sum(amount // wanted.accelerators for amount in amounts)
    found = f"{sum(amounts)} {wanted.accelerator} on {len(nodes)} of {of} nodes that training may use"
    needed = f"{count} x {wanted.accelerators}"
    if places < count:
        return failed(
            name,
            f"{found}: {needed} are asked for; add nodes or the device plugin, check node_selector and "
            "tolerations, or ask for fewer (--deploy train.accelerators=0 for none); nodes that an "
            "autoscaler would add do not count",
        )
    return ok(name, f"{found}; {needed} are asked for; what others use now is not subtracted")


def _misfit(stage: str, resources: Resources, nodes: list[Node], count: int) -> str:
    """Why the pods of a stage do not fit, with the remedy; nothing where they do."""
    wanted = _quantities({"cpu": resources.cpu, "memory": resources.memory})
    if resources.accelerators:
        wanted = {**wanted, resources.accelerator: Decimal(resources.accelerators)}
    places = sum(max(0, node.places(wanted)) for node in nodes)
    if places >= count:
        return ""
    asked = f"{resources.cpu} CPU, {resources.memory}"
    asked += f", {resources.accelerators} {resources.accelerator}" if resources.accelerators else ""
    times = f"{count} x ({asked})" if count > 1 else asked
    return (
        f"{stage} asks for {times}: of the nodes that it may use, {_shown(nodes, wanted)}; ask for less "
        f"(--deploy {stage}.cpu=... {stage}.memory=...), or add nodes"
    )


def _shown(nodes: Iterable[Node], wanted: Amounts) -> str:
    """The nodes with most room, for people."""
    told = []
    names = list(wanted)[::-1]  # accelerators first
    for node in sorted(nodes, key=lambda node: [-node.free.get(name, Decimal(0)) for name in names]):
        amounts = [f"{_short(node.free.get('cpu', Decimal(0)))} CPU"]
        amounts.append(f"{_short(node.free.get('memory', Decimal(0)) / _GIB)}Gi")
        amounts += [f"{node.free.get(name, 0)} {name}" for name in wanted if name not in ("cpu", "memory")]
        told.append(f"{node.name} has {', '.join(amounts)}")
    more = f" and {len(told) - 3} more have no more" if len(told) > 3 else ""
    return ", ".join(told[:3]) + more if told else "there is none"


def _short(amount: Decimal) -> str:
    """Rounded down, so that what does not fit does not look as if it did."""
    return f"{int(amount * 100) / 100:g}"


def takes(node: JsonObject, deployment: Deployment | None) -> bool:
    """Whether the scheduler may put a pod there, as far as labels and taints say.

    Args:
        deployment: whose training pod it is; None for a pod that asks for no special node.
    """
    labels = node["metadata"].get("labels", {})
    selector = deployment.node_selector if deployment else {}
    if any(labels.get(key) != value for key, value in selector.items()):
        return False
    if node.get("spec", {}).get("unschedulable"):
        return False
    tolerations = deployment.tolerations if deployment else ()
    repelling = [
        one for one in node.get("spec", {}).get("taints") or [] if one["effect"] != "PreferNoSchedule"
    ]
    return all(any(_tolerates(one, taint) for one in tolerations) for taint in repelling)


def _tolerates(toleration: Any, taint: Mapping[str, Any]) -> bool:
    same_value = toleration.operator == "Exists" or toleration.value == taint.get("value", "")
    return toleration.key == taint["key"] and same_value and toleration.effect in (None, taint["effect"])
