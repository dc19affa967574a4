"""Who is told what of a run; the addresses themselves are never settings, for they are secrets."""

import re
from typing import Annotated, Literal, get_args

from pydantic import AfterValidator, Field

from optduel.components.settings.section import Section

Event = Literal[
    "optduel.run.failed",
    "optduel.run.skipped",
    "optduel.data.late",
    "optduel.gate.refused",
    "optduel.champion.promoted",
    "optduel.schedule.overdue",
]
"""What can be told, by the type that its CloudEvent has."""

WEBHOOKS_VARIABLE = "OPTDUEL_ALERT_WEBHOOKS"
"""Addresses that take CloudEvents, separated by white space."""

APPRISE_VARIABLE = "OPTDUEL_ALERT_APPRISE"
"""Addresses of chats and mail in the notation of the library apprise, separated by white space."""

ALERT_VARIABLES = {"webhooks": WEBHOOKS_VARIABLE, "apprise": APPRISE_VARIABLE}
"""The environment variable of each key of the secret."""


def _name_of_a_secret(value: str) -> str:
    # Without the value: somebody may have put an address there.
    if not re.fullmatch(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?", value):
        raise ValueError("must be the name of a Kubernetes secret, which holds the addresses; not an address")
    return value


class Alerts(Section):
    """A run tells what became of it.

    Attributes:
        secret_name: in the run's namespace, with addresses under `webhooks`, `apprise` or both.
        events: that are told; all of them unless given.
    """

    secret_name: Annotated[str, AfterValidator(_name_of_a_secret)]
    events: Annotated[tuple[Event, ...], Field(min_length=1)] = get_args(Event)
