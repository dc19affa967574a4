"""The one client of the Kubernetes API, for the launcher of training jobs and for the doctor."""

from optduel.components.kubernetes.api import (
    EVENTS,
    PODS,
    WORKFLOWS,
    Api,
    ApiFailure,
    Conflict,
    Forbidden,
    JsonObject,
    NotFound,
    Resource,
    Unreachable,
    connect,
    parse_quantity,
    refused,
)
from optduel.components.kubernetes.timing import Timing
from optduel.components.kubernetes.watching import Changed, Listed, Refused, Sight, Watcher

__all__ = [
    "parse_quantity",
    "Api",
    "ApiFailure",
    "Changed",
    "Conflict",
    "EVENTS",
    "Forbidden",
    "JsonObject",
    "Listed",
    "NotFound",
    "PODS",
    "Refused",
    "Resource",
    "Sight",
    "Timing",
    "Unreachable",
    "WORKFLOWS",
    "Watcher",
    "connect",
    "refused",
]
