"""Finds the cluster: from inside a pod by its service account, elsewhere by kubeconfig."""

import os
from pathlib import Path

from kubernetes.client import ApiClient, Configuration
from kubernetes.config import (
    ConfigException,
    list_kube_config_contexts,
    load_incluster_config,
    load_kube_config,
)

from optduel.components.core.errors import SetupError
from optduel.components.core.stopping import StopRequest
from optduel.components.kubernetes.api import Api
from optduel.components.kubernetes.timing import Timing

_NAMESPACE_FILE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")


def connect(workers: int, timing: Timing, request: StopRequest) -> Api:
    """The API of the cluster and namespace that this process belongs to.

    Args:
        workers: whose logs are followed, each on a connection of its own.
        timing: of every request.
        request: to stop.

    Raises:
        SetupError: neither a service account nor a kubeconfig is there.
    """
    configuration = Configuration()
    configuration.connection_pool_maxsize = workers + 8
    namespace = _in_cluster(configuration) or _by_kubeconfig(configuration)
    return Api(ApiClient(configuration), namespace, timing, request)


def _in_cluster(configuration: Configuration) -> str:
    try:
        load_incluster_config(client_configuration=configuration)
        return _NAMESPACE_FILE.read_text(encoding="utf-8").strip()
    except (ConfigException, FileNotFoundError):
        return ""


def _by_kubeconfig(configuration: Configuration) -> str:
    # The client reads the variable once, when it is imported.
    file = os.environ.get("KUBECONFIG")
    try:
        load_kube_config(config_file=file, client_configuration=configuration)
        _, active = list_kube_config_contexts(config_file=file)
    except ConfigException as error:
        raise SetupError(
            f"Kubernetes: this process has no service account, and no kubeconfig was found ({error}); "
            "run it as a step of a pipeline, or set KUBECONFIG"
        ) from error
    return str(active["context"].get("namespace") or "default")
