"""A notice as it is sent: a CloudEvent for programs, a title and a text for people."""

import datetime
from dataclasses import dataclass
from typing import TYPE_CHECKING

from optduel.components.results import Notice

if TYPE_CHECKING:
    from cloudevents.core.v1.event import CloudEvent

_TITLES = {
    "optduel.run.failed": "run failed",
    "optduel.run.skipped": "skipped",
    "optduel.data.late": "data is late",
    "optduel.gate.refused": "candidate refused",
    "optduel.champion.promoted": "new champion",
    "optduel.schedule.overdue": "schedule is overdue",
}


@dataclass(frozen=True)
class Alert:
    """A notice on its way.

    Attributes:
        source: what it comes from, a URI reference as CloudEvents has it; with `identifier` it is unique, and
            the same however often it is sent, so that receivers can drop what they have.
        identifier: within the source.
        moment: when it happened.
        link: to a page about it, where one is known.
    """

    notice: Notice
    source: str
    identifier: str
    moment: datetime.datetime
    link: str | None = None

    @property
    def title(self) -> str:
        """One line for a person."""
        return f"optduel: {self.notice.subject}: {_TITLES[self.notice.event]}"

    @property
    def text(self) -> str:
        """Plain text for a person."""
        details = [f"{name}: {value}" for name, value in self.notice.details.items() if value is not None]
        return "\n".join([self.notice.summary, *details, *([self.link] if self.link else [])])

    def cloud_event(self) -> "CloudEvent":
        """The same for a program, by CloudEvents 1.0; its data are the notice's fields and the link."""
        from cloudevents.core.v1.event import CloudEvent

        attributes = {
            "id": self.identifier,
            "source": self.source,
            "type": self.notice.event,
            "subject": self.notice.subject,
            "time": self.moment,
            "datacontenttype": "application/json",
        }
        said = {"summary": self.notice.summary, "details": dict(self.notice.details), "link": self.link}
        return CloudEvent(attributes, said)
