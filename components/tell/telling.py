"""Sends what a run has to tell, once, and leaves in its folder what was sent and whether it arrived.

A run does not fail because nobody could be told: what cannot be sent is said and recorded.
"""

import datetime
import os
import threading
import time
from collections.abc import Collection, Mapping, Sequence

from optduel.components.core import OptduelError, say
from optduel.components.redaction import redacted
from optduel.components.results import Notice, read_notices, run_folder, write_notice
from optduel.components.settings import APPRISE_VARIABLE, WEBHOOKS_VARIABLE, Section, decode
from optduel.components.storage import join, publish, read, stat
from optduel.components.tell.alerts import Alert
from optduel.components.tell.channels import Channel, channels
from optduel.components.tell.ending import Ending

LONGEST_SECONDS = 90.0
"""For all addresses together; what has not been delivered by then is given up."""

UI_VARIABLE = "KF_PIPELINES_UI_ENDPOINT"
"""Names the UI of Kubeflow Pipelines, for links."""

RECORD_NAME = "alerts.json"


class Sending(Section):
    """One alert to one address.

    Attributes:
        source, identifier: of the alert, as `Alert` has them.
        place: the address, by variable and position.
        problem: why it was not delivered; None where it was.
    """

    source: str
    identifier: str
    place: str
    problem: str | None


class Sendings(Section):
    """The content of `alerts.json`."""

    sendings: tuple[Sending, ...] = ()


def tell_run(
    experiment: str,
    root: str,
    run: str,
    ending: Ending,
    events: Collection[str] | None = None,
    environment: Mapping[str, str] = os.environ,
) -> None:
    """Tells what became of a run: its notices, and its failure.

    Args:
        experiment: its name.
        root: folder of the runs, a path or a URI.
        run: its name below the root.
        ending: what became of it.
        events: that are told; all unless given.
        environment: with the addresses.
    """
    folder = run_folder(root, run)
    notices = [one for one in _notices(experiment, folder, run, ending) if not events or one.event in events]
    if not notices:
        say(f"tell: nothing to tell of a run that is {ending.state}")
        return
    moment = datetime.datetime.now(datetime.UTC)
    page = environment.get(UI_VARIABLE)
    link = f"{page.rstrip('/')}/#/runs/details/{run}" if page else None
    source = f"/optduel/{experiment}/runs/{run}"
    alerts = [Alert(notice, source, notice.event, moment, link) for notice in notices]
    before = _sent(folder)
    sendings = send(alerts, environment, done=before)
    try:
        publish(join(folder, RECORD_NAME), Sendings(sendings=(*before, *sendings)).canonical_json().encode())
    except OptduelError as error:
        say(f"tell: what was sent cannot be recorded: {error}")


def send(
    alerts: Sequence[Alert], environment: Mapping[str, str] = os.environ, done: Collection[Sending] = ()
) -> list[Sending]:
    """Sends alerts to all addresses of an environment, and says of each whether it was delivered.

    Args:
        done: earlier attempts; what was delivered is not sent again.
    """
    known = channels(environment)
    if not known:
        say(f"alert: cannot be sent: neither {WEBHOOKS_VARIABLE} nor {APPRISE_VARIABLE} holds an address")
    delivered = {(one.source, one.identifier, one.place) for one in done if one.problem is None}
    results: list[Sending] = []
    sent = [
        (channel, [one for one in alerts if (one.source, one.identifier, channel.place) not in delivered])
        for channel in known
    ]
    # In threads that nobody waits for at the end: no library promises that it ends.
    threads = [threading.Thread(target=_send, args=(*one, results), daemon=True) for one in sent]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + LONGEST_SECONDS
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    ended = {(one.source, one.identifier, one.place) for one in list(results)}
    late = [
        Sending(source=one.source, identifier=one.identifier, place=channel.place, problem="took too long")
        for channel, waiting in sent
        for one in waiting
        if (one.source, one.identifier, channel.place) not in ended
    ]
    sendings = sorted([*results, *late], key=lambda one: (one.place, one.identifier))
    for one in sendings:
        how = "was sent" if one.problem is None else f"could not be sent: {one.problem}"
        say(f"alert: {one.identifier}: {how} ({one.place})")
    return sendings


def _send(channel: Channel, alerts: Sequence[Alert], results: list[Sending]) -> None:
    for alert in alerts:
        try:
            problem = channel.send(alert)
        except Exception as error:  # noqa: BLE001  # a library's, whose words may hold the address
            problem = f"failed ({type(error).__name__})"
        results.append(
            Sending(source=alert.source, identifier=alert.identifier, place=channel.place, problem=problem)
        )


def _notices(experiment: str, folder: str, run: str, ending: Ending) -> list[Notice]:
    """What there is to tell; of a failure that a notice explains, only that notice."""
    try:
        found = read_notices(folder)
    except OptduelError as error:
        say(f"tell: what the run's tasks have left cannot be read: {error}")
        found = []
    if ending.state == "cancelled":
        return []
    explained = any(one.event == "optduel.data.late" for one in found)
    if ending.state != "failed" or explained:
        return [one for one in found if one.event != "optduel.run.failed"]
    failed = Notice(
        event="optduel.run.failed",
        subject=experiment,
        summary=redacted(f"The run {run} has failed. {'; '.join(ending.causes)}".strip()),
        details={"run": run, "folder": folder},
    )
    try:
        write_notice(folder, failed)
    except OptduelError as error:
        say(f"tell: that the run has failed cannot be recorded: {error}")
    return [*(one for one in found if one.event != "optduel.run.failed"), failed]


def _sent(folder: str) -> tuple[Sending, ...]:
    place = join(folder, RECORD_NAME)
    try:
        return decode(Sendings, read(place), place).sendings if stat(place) else ()
    except OptduelError as error:
        say(f"tell: what was sent before cannot be read: {error}")
        return ()
