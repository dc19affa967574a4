"""The Pod Security Standard "restricted" of Kubernetes 1.36, all its rules.

Source: kubernetes.io/docs/concepts/security/pod-security-standards.
"""

from collections.abc import Iterator
from typing import Any

from tests.cluster.kustomize import Object

_VOLUMES = {
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "persistentVolumeClaim",
    "projected",
    "secret",
}
_SYSCTLS = {
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.ping_group_range",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_wmem",
}
_SELINUX_TYPES = {"", "container_t", "container_init_t", "container_kvm_t", "container_engine_t"}
_PROFILES = {"RuntimeDefault", "Localhost"}
_APPARMOR = "container.apparmor.security.beta.kubernetes.io/"


def containers(template: Object) -> list[Object]:
    """Of all three kinds."""
    kinds = ("initContainers", "containers", "ephemeralContainers")
    return [container for kind in kinds for container in template["spec"].get(kind, [])]


def restricted_violations(template: Object) -> list[str]:
    """What the standard forbids about a pod template, one phrase each; nothing when it passes."""
    return [*_of_pod(template), *_of_containers(template)]


def _of_pod(template: Object) -> Iterator[str]:
    spec = template["spec"]
    context = spec.get("securityContext", {})
    for field in ("hostNetwork", "hostPID", "hostIPC"):
        if spec.get(field):
            yield field
    for volume in spec.get("volumes", []):
        for kind in volume.keys() - {"name"} - _VOLUMES:
            yield f"volume {volume['name']}: {kind}"
    for sysctl in context.get("sysctls", []):
        if sysctl["name"] not in _SYSCTLS:
            yield f"sysctl {sysctl['name']}"
    for name, value in template.get("metadata", {}).get("annotations", {}).items():
        allowed = value == "runtime/default" or value.startswith("localhost/")
        if name.startswith(_APPARMOR) and not allowed:
            yield f"annotation {name}: {value}"
    yield from _of_context("pod", context)


def _of_containers(template: Object) -> Iterator[str]:
    pod = template["spec"].get("securityContext", {})
    for container in containers(template):
        name = container["name"]
        context = container.get("securityContext", {})
        capabilities = context.get("capabilities", {})
        yield from _of_context(name, context)
        if context.get("privileged"):
            yield f"{name}: privileged"
        if context.get("allowPrivilegeEscalation") is not False:
            yield f"{name}: allowPrivilegeEscalation"
        if "ALL" not in capabilities.get("drop", []):
            yield f"{name}: capabilities are not dropped"
        if set(capabilities.get("add", [])) - {"NET_BIND_SERVICE"}:
            yield f"{name}: capabilities are added"
        if context.get("procMount", "Default") != "Default":
            yield f"{name}: procMount"
        if not context.get("runAsNonRoot", pod.get("runAsNonRoot")):
            yield f"{name}: may run as root"
        if not context.get("seccompProfile", pod.get("seccompProfile")):
            yield f"{name}: no seccomp profile"
        if any(port.get("hostPort") for port in container.get("ports", [])):
            yield f"{name}: hostPort"
        if any(handler.get("host") for handler in _handlers(container)):
            yield f"{name}: host of a probe or hook"


def _of_context(where: str, context: Object) -> Iterator[str]:
    """What holds for the security contexts of pods and of containers."""
    selinux = context.get("seLinuxOptions", {})
    if selinux.get("type", "") not in _SELINUX_TYPES or selinux.get("user") or selinux.get("role"):
        yield f"{where}: seLinuxOptions"
    if context.get("windowsOptions", {}).get("hostProcess"):
        yield f"{where}: hostProcess"
    if context.get("runAsUser") == 0:
        yield f"{where}: runs as root"
    for profile in ("seccompProfile", "appArmorProfile"):
        if profile in context and context[profile]["type"] not in _PROFILES:
            yield f"{where}: {profile} {context[profile]['type']}"


def _handlers(container: Object) -> Iterator[dict[str, Any]]:
    probes = [container.get(name, {}) for name in ("livenessProbe", "readinessProbe", "startupProbe")]
    hooks = [container.get("lifecycle", {}).get(name, {}) for name in ("postStart", "preStop")]
    for handler in probes + hooks:
        yield from (handler.get(kind, {}) for kind in ("httpGet", "tcpSocket"))
