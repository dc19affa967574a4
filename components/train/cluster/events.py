"""What the cluster's controllers complain about."""

import re
from collections.abc import Iterable

from optduel.components.kubernetes.api import EVENTS, Api, ApiFailure, JsonObject

_SHOWN = 3
_SHOWN_CHARACTERS = 400
_GENERATED = re.compile(r"-[bcdfghjklmnpqrstvwxz2-9]{5}\b")
"""Ends the name of a pod that could not be created: the next attempt's has another."""


def warnings(api: Api, names: Iterable[str]) -> list[str]:
    """The last warnings about objects of these names, each once, newest first."""
    try:
        found = [
            event
            for name in names
            for event in api.find(EVENTS, fields=f"involvedObject.name={name},type=Warning")
        ]
    except ApiFailure as failure:
        return [f"events cannot be read: {failure}"]
    told = [
        f"{event.get('reason')}: {event.get('message')}" for event in sorted(found, key=_when, reverse=True)
    ]
    different: dict[str, str] = {}
    for text in told:
        different.setdefault(_GENERATED.sub("", text), text[:_SHOWN_CHARACTERS].rstrip("."))
    return list(different.values())[:_SHOWN]


def _when(event: JsonObject) -> str:
    return str(event.get("lastTimestamp") or event.get("eventTime") or "")
