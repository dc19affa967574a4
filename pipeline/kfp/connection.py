"""Talks to Kubeflow Pipelines through kfp.Client, in bounded time, with one message for each way to fail.

kfp.Client alone waits for ever, prints, warns, and takes a proxy's sign-in page for an empty answer.
"""

import contextlib
import io
import json
import os
import re
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from optduel.components.core import ClusterError, ExperimentError
from optduel.components.redaction import redacted
from optduel.pipeline.kfp.refusals import SignInPage, told

CONNECT_SECONDS = 10
READ_SECONDS = 30

OLDEST_VERSION = (2, 17)
"""Of Kubeflow Pipelines. It brought the time that finished runs are kept, 2.16 the tasks' user, and 2.15 the
TaskConfig that hands resources on to training jobs: an older one ignores or refuses what is compiled here."""

_EQUALS = 1
"""KFP's number for the operation of a filter."""

_POD_NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")

_HEALTH = "/apis/v2beta1/healthz"
_HEALTH_OF_VERSION_1 = "/apis/v1beta1/healthz"


@dataclass(frozen=True)
class Access:
    """Where Kubeflow Pipelines is and who asks; what is None is found as kfp.Client finds it.

    The command line fills it from its options, or from the environment.

    Attributes:
        host: the API's address, or the UI's, which passes requests on; unless given, the service in this
            cluster, then the cluster of the kubeconfig file.
        ui_host: the UI's address, for links; `host` unless given.
        namespace: the profile's, if this Kubeflow has profiles.
        token_file: file with a bearer token; it is read for every request, as it may be renewed.
        cookie_file: file with the session's cookie, `name=value`, for a proxy that asks for one.
        ca_file: file with the certificate authorities to trust.
        kube_context: context of the kubeconfig file; the current one unless given.
    """

    host: str | None = None
    ui_host: str | None = None
    namespace: str | None = None
    token_file: str | None = None
    cookie_file: str | None = None
    ca_file: str | None = None
    kube_context: str | None = None


@dataclass(frozen=True)
class Health:
    """What the server tells of itself; `version` is as it says, "unknown" included."""

    version: str
    multi_user: bool

    @property
    def release(self) -> tuple[int, int] | None:
        """Major and minor version; None where `version` is no release's."""
        found = re.match(r"v?(\d+)\.(\d+)", self.version)
        return (int(found[1]), int(found[2])) if found else None


class Connection:
    """To one server. Makes no request until `call` or `read` does.

    Attributes:
        host: the API's address.
        namespace: of the profile, once opened; None where there are none.
        is_through_ui: whether the address is the UI's, once opened: it passes on most of the API only.
    """

    def __init__(self, access: Access) -> None:
        """Finds server and identity.

        Raises:
            ExperimentError: a file that `access` names cannot be used, an address holds credentials, or no
                server is known.
        """
        _check_address("--host", access.host, "KF_PIPELINES_ENDPOINT")
        _check_address("--ui-host", access.ui_host, "KF_PIPELINES_UI_ENDPOINT")
        with _silent() as printed:
            self._client = _client(access)
        self._api = self._client.runs.run_service_get_run.__self__.api_client
        if "kube config" in printed.getvalue():
            raise ExperimentError(
                "--host: is required: KF_PIPELINES_ENDPOINT is not set, this is no pod of a cluster, and "
                "there is no kubeconfig; give the address of Kubeflow Pipelines, for example "
                "http://localhost:8080 after kubectl port-forward -n kubeflow svc/ml-pipeline-ui 8080:80"
            )
        self.host: str = self._api.configuration.host
        self.namespace: str | None = None
        self.is_through_ui = False
        self._namespace = access.namespace or self._client.get_user_namespace()
        self._ui = access.ui_host or access.host

    def call(
        self, purpose: str, service: str, method: str, none_for: Collection[int] = (), **arguments: Any
    ) -> Any:
        """Makes one request.

        Args:
            purpose: what for, as in "not allowed to PURPOSE".
            service: as kfp.Client names it: "runs", "pipelines", "pipeline_uploads", ...
            method: of the service.
            none_for: HTTP statuses that are no failure.
            arguments: of the method.

        Returns:
            The answer, a model of kfp_server_api, or None for a status of `none_for`.

        Raises:
            ClusterError: there was none, or it was an error.
        """
        function: Callable[..., Any] = getattr(getattr(self._client, service), method)
        return self._send(purpose, none_for, lambda: function(**arguments))

    def pages(self, purpose: str, service: str, method: str, field: str, **arguments: Any) -> Iterator[Any]:
        """Every element of a list that comes in pages.

        Args:
            field: of the answer that holds the elements.

        Raises:
            ClusterError: as `call`.
        """
        token = ""
        while True:
            page = self.call(purpose, service, method, page_token=token, page_size=100, **arguments)
            yield from getattr(page, field) or ()
            token = page.next_page_token or ""
            if not token:
                return

    def read(
        self,
        purpose: str,
        path: str,
        is_text: bool = False,
        none_for: Collection[int] = (),
        query: Mapping[str, str] = MappingProxyType({}),
    ) -> Any:
        """Reads what the client has no method for.

        Args:
            path: of the address, from /apis on; of the UI's own addresses from /k8s on.
            is_text: whether the answer is text, else JSON.
            none_for: as `call` takes it.
            query: of the address.

        Raises:
            ClusterError: as `call`.
        """
        options = {
            "query_params": list(query.items()),
            "response_type": None if is_text else "object",
            "auth_settings": ["Bearer"],
            "_return_http_data_only": True,
        }

        def request() -> Any:
            answer = self._api.call_api(path, "GET", **options)
            # The client takes whatever looks like JSON for JSON.
            return self._api.last_response.data if is_text else answer

        return self._send(purpose, none_for, request)

    def open(self) -> Health:
        """Asks the server for its version, and finds out the namespace.

        A server that does not tell its release, such as one built from source, is let through.

        Raises:
            ClusterError: it does not answer, or is older than `OLDEST_VERSION`.
            ExperimentError: its users have profiles, and the namespace of this one is not known.
        """
        purpose = "read its version"
        answer = self.read(purpose, _HEALTH, none_for=(404,))
        if answer is None:
            old = self.read(purpose, _HEALTH_OF_VERSION_1)
            raise ClusterError(_too_old(self.host, str(old.get("tag_name", "1"))))
        self.is_through_ui = "apiServerReady" in answer
        version = answer.get("apiServerTagName" if self.is_through_ui else "tag_name")
        health = Health(str(version or "unknown"), bool(answer.get("multi_user")))
        if health.release is not None and health.release < OLDEST_VERSION:
            raise ClusterError(_too_old(self.host, health.version))
        self.namespace = self._profile() if health.multi_user else None
        return health

    def scope(self) -> dict[str, Any]:
        """The argument that limits a list to the profile, where there are any."""
        return {"namespace": self.namespace} if self.namespace else {}

    def _profile(self) -> str:
        if self._namespace:
            return self._namespace
        if not _POD_NAMESPACE.exists():
            raise ExperimentError("--namespace: is required: this Kubeflow has profiles; give yours")
        return _POD_NAMESPACE.read_text(encoding="utf-8").strip()

    def page(self, fragment: str) -> str | None:
        """The address of a page of the UI, if the UI's is known."""
        if not self._ui:
            return None
        address = self._ui if "://" in self._ui else f"https://{self._ui}"
        return f"{address.rstrip('/')}/#/{fragment}"

    def _send(self, purpose: str, none_for: Collection[int], request: Callable[[], Any]) -> Any:
        from kfp_server_api import ApiException
        from urllib3.exceptions import HTTPError

        try:
            with _silent():
                return request()
        except (ApiException, HTTPError, SignInPage, OSError) as error:
            if getattr(error, "status", None) in none_for:
                return None
            raise told(error, self.host, purpose) from error


def named(name: str, field: str = "display_name") -> str:
    """A filter, as every list of KFP takes it, for elements shown as `name`, or with it in another field."""
    predicate = {"operation": _EQUALS, "key": field, "stringValue": name}
    return json.dumps({"predicates": [predicate]})


def _client(access: Access) -> Any:
    """A kfp.Client whose requests end."""
    import kfp
    from kfp.client.set_volume_credentials import ServiceAccountTokenVolumeCredentials

    class BoundedClient(kfp.Client):  # type: ignore[misc]  # kfp ships no types
        def _load_config(self, *arguments: Any, **options: Any) -> Any:
            config = super()._load_config(*arguments, **options)
            config.retries = False  # of redirects neither: one to a sign-in page is an answer
            return config

        def get_kfp_healthz(self, sleep_duration: int = 0) -> Any:
            """Asks nothing: the constructor would ask five times, and `Connection.open` does once."""
            return self.api_models.V2beta1GetHealthzResponse(multi_user=False)

    if access.token_file:
        _readable("--token-file", access.token_file)
    if access.ca_file:
        _readable("--ca-file", access.ca_file)
    cookie = _readable("--cookie-file", access.cookie_file) if access.cookie_file else None
    client = BoundedClient(
        host=access.host,
        ui_host=access.ui_host,
        credentials=(ServiceAccountTokenVolumeCredentials(access.token_file) if access.token_file else None),
        cookies=cookie,
        ssl_ca_cert=access.ca_file,
        kube_context=access.kube_context,
    )
    api = client.runs.run_service_get_run.__self__.api_client
    api.request = _bounded(api.request)
    return client


def _bounded(request: Callable[..., Any]) -> Callable[..., Any]:
    from kfp_server_api import ApiException

    def bounded(*arguments: Any, _request_timeout: Any = None, **options: Any) -> Any:
        limit = _request_timeout or (CONNECT_SECONDS, READ_SECONDS)
        try:
            response = request(*arguments, _request_timeout=limit, **options)
        except ApiException as error:
            # The client decodes it without looking: there is none after a failure of TLS.
            error.body = (error.body or b"").decode(errors="replace").encode()
            raise
        if "html" in (response.getheader("Content-Type") or ""):
            raise SignInPage
        # The client would end at a log's first byte that is no UTF-8.
        response.data = response.data.decode(errors="replace").encode()
        return response

    return bounded


def _check_address(option: str, given: str | None, variable: str) -> None:
    """An address is shown, and goes into links: it must hold no credentials."""
    for address in (given, os.environ.get(variable)):
        if address and ("@" in address or redacted(address) != address):
            raise ExperimentError(
                f"{option} ({variable}): holds credentials; give the address alone, and --token-file or "
                "--cookie-file"
            )


def _readable(option: str, name: str) -> str:
    try:
        return Path(name).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not text"
        raise ExperimentError(f"{option} = {name}: {reason}; check the path") from error


def _too_old(host: str, version: str) -> str:
    oldest = ".".join(map(str, OLDEST_VERSION))
    return f"{host}: Kubeflow Pipelines = {version}: must be {oldest} or newer; ask for an upgrade"


@contextlib.contextmanager
def _silent() -> Iterator[io.StringIO]:
    """Keeps what kfp.Client prints and warns of off the screen."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield printed
