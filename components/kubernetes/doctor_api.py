"""Reads Kubernetes for the doctor, in bounded time."""

import json
import os
from typing import Any

from kubernetes.client import ApiClient, ApiException, Configuration
from kubernetes.config import ConfigException, load_incluster_config, load_kube_config
from urllib3.exceptions import HTTPError

from optduel.components.core import ClusterError

_SECONDS = (5, 15)
"""To connect and to wait for an answer."""

_METADATA_ONLY = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,application/json"


class ForbiddenError(Exception):
    """The caller may not make this request."""


class KubernetesReader:
    """Makes requests as the service account of this pod, or as the user of the kubeconfig file.

    Args:
        context: of the kubeconfig file; the current one when None.

    Raises:
        ClusterError: there is neither a service account nor a kubeconfig.
    """

    def __init__(self, context: str | None) -> None:
        configuration = Configuration()
        try:
            if context is None and "KUBERNETES_SERVICE_HOST" in os.environ:
                load_incluster_config(client_configuration=configuration)
            else:
                # The client reads the variable once, when it is imported.
                file = os.environ.get("KUBECONFIG")
                load_kube_config(file, context=context, client_configuration=configuration)
        except (ConfigException, OSError) as error:
            reason = str(error).rstrip(".")
            raise ClusterError(
                f"Kubernetes: no access: {reason}; set KUBECONFIG or --kube-context"
            ) from error
        configuration.retries = False
        self._client = ApiClient(configuration)
        self.host: str = configuration.host

    def get(self, path: str, metadata_only: bool = False) -> dict[str, Any] | None:
        """The object at a path, or None where there is none.

        Args:
            metadata_only: leaves the object's content on the server, as a secret's should be.

        Raises:
            ForbiddenError: the caller may not.
            ClusterError: there was no answer, or another error.
        """
        accept = _METADATA_ONLY if metadata_only else "application/json"
        try:
            return self._send("GET", path, {"Accept": accept}, None)
        except ApiException as error:
            if error.status == 404:
                return None
            raise self._told(error) from error

    def user(self) -> str | None:
        """The caller's name, as a SelfSubjectReview tells; None where that is not known (before 1.28).

        Raises:
            ForbiddenError: the caller may not ask.
            ClusterError: there was no answer, or another error.
        """
        body = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
        try:
            answer = self._send("POST", "/apis/authentication.k8s.io/v1/selfsubjectreviews", {}, body)
        except ApiException as error:
            if error.status == 404:
                return None
            raise self._told(error) from error
        return str(answer["status"]["userInfo"]["username"])

    def may(self, verb: str, group: str, resource: str, namespace: str, user: str | None) -> bool:
        """Whether somebody may make a request, as a SelfSubjectAccessReview tells.

        Args:
            resource: with a subresource after a slash.
            user: in whose place it is asked; the caller's own when None.

        Raises:
            ForbiddenError: the caller may not ask in that user's place.
            ClusterError: there was no answer, or another error.
        """
        kind, _, part = resource.partition("/")
        wanted = {"verb": verb, "group": group, "resource": kind, "subresource": part, "namespace": namespace}
        body = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": wanted},
        }
        headers = {"Impersonate-User": user} if user else {}
        path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
        try:
            answer = self._send("POST", path, headers, body)
        except ApiException as error:
            raise self._told(error) from error
        return bool(answer["status"]["allowed"])

    def _send(self, method: str, path: str, headers: dict[str, str], body: Any) -> dict[str, Any]:
        try:
            answer: dict[str, Any] = self._client.call_api(
                path,
                method,
                header_params={"Content-Type": "application/json", **headers},
                body=body,
                response_type="object",
                auth_settings=["BearerToken"],
                _return_http_data_only=True,
                _request_timeout=_SECONDS,
            )
        except HTTPError as error:
            reason = str(getattr(error, "reason", None) or error).rpartition(": ")[2]
            raise ClusterError(
                f"{self.host}: Kubernetes does not answer: {reason}; check the kubeconfig's context and VPN"
            ) from error
        return answer

    def _told(self, error: ApiException) -> Exception:
        try:
            words = json.loads(error.body)["message"]
        except (TypeError, ValueError, KeyError):
            words = error.reason
        if error.status == 403:
            return ForbiddenError(words)
        remedy = "renew the kubeconfig's credentials" if error.status == 401 else "try again"
        return ClusterError(f"{self.host}: Kubernetes: {error.status}: {words}; {remedy}")
