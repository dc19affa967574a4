"""What the cluster's controllers complain about."""

from collections.abc import Iterable

from components.train.cluster.api import EVENTS, Api, ApiFailure, JsonObject

_SHOWN = 3
_SHOWN_CHARACTERS = 400


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
    return [text[:_SHOWN_CHARACTERS] for text in dict.fromkeys(told)][:_SHOWN]


def _when(event: JsonObject) -> str:
    return str(event.get("lastTimestamp") or event.get("eventTime") or "")
