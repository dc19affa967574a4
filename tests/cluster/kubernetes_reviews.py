"""Who asks the test's Kubernetes API, in whose place, and what the asker is told of permissions."""

from typing import TYPE_CHECKING

from tests.cluster.kubernetes_objects import ApiError, Object, Resource

if TYPE_CHECKING:
    from tests.cluster.kubernetes_server import KubernetesServer

Permission = tuple[str, str, str, str]
"""Verb, API group, resource and subresource ("" without one)."""

ACCESS = Resource("authorization.k8s.io", "v1", "selfsubjectaccessreviews", "", False)
SUBJECT = Resource("authentication.k8s.io", "v1", "selfsubjectreviews", "", False)
REVIEWS = (ACCESS, SUBJECT)
"""Every user may ask for these."""


def acting_user(kubernetes: "KubernetesServer", impersonated: str | None) -> str:
    """Who a request is made as: the caller, or whom it names in the header Impersonate-User.

    Raises:
        ApiError: the caller may not act in that place.
    """
    if not impersonated:
        return kubernetes.user
    kind, name, where = "users", impersonated, "at the cluster scope"
    if impersonated.startswith("system:serviceaccount:"):
        _, _, namespace, name = impersonated.split(":")
        kind, where = "serviceaccounts", f'in the namespace "{namespace}"'
    if not kubernetes.allows(("impersonate", "", kind, "")):
        raise ApiError(
            403,
            "Forbidden",
            f'{kind} "{name}" is forbidden: User "{kubernetes.user}" cannot impersonate resource "{kind}" '
            f'in API group "" {where}',
        )
    return impersonated


def may(kubernetes: "KubernetesServer", user: str, permission: Permission, namespace: str) -> bool:
    """Whether a user may do this: the caller what it was granted, an account in its own namespace only."""
    if user == kubernetes.user:
        return kubernetes.allows(permission)
    home = user.split(":")[2] if user.startswith("system:serviceaccount:") else ""
    return namespace == home and permission in kubernetes.accounts.get(user, set())


def reviewed(kubernetes: "KubernetesServer", resource: Resource, user: str, body: Object) -> Object:
    """The answer to a review of the caller's own permissions, or of who the caller is."""
    if resource == SUBJECT:
        return body | {"status": {"userInfo": {"username": user}}}
    asked = body["spec"]["resourceAttributes"]
    verb, group, plural, subresource = (
        asked.get(key, "") for key in ("verb", "group", "resource", "subresource")
    )
    allowed = may(kubernetes, user, (verb, group, plural, subresource), asked.get("namespace", ""))
    return body | {"status": {"allowed": allowed}}
