"""The promote stage's calls: what a retraining run came to is done, recorded, left to be told, and shown."""

from pathlib import Path
from typing import Literal

from optduel.components.champions import (
    Champion,
    Judgement,
    RetrainingDecision,
    RetrainingRun,
    read_decision,
    read_judgement,
    tell_story,
    write_retraining_run,
)
from optduel.components.core import ConflictError, ExperimentError, say
from optduel.components.promote.hand_over import hand_over
from optduel.components.promote.promotion import promote
from optduel.components.results import Notice, run_folder, sum_costs, task_costs, write_notice
from optduel.components.settings import Event, Retraining, decode
from optduel.components.storage import publish


def promote_run(retraining: str, root: str, run: str, timeline: Path) -> RetrainingRun:
    """Makes the run's candidate the champion, if the gate let it pass and nobody else was first.

    Args:
        retraining: the experiment's section, JSON.
        root: of datasets, runs and champions, a path or a URI.
        run: the run's name, unique below root.
        timeline: where the champion's page goes.

    Raises:
        DataError: a document of the run or its model is damaged.
        StorageError: a place cannot be read or written.
    """
    settings = decode(Retraining, retraining, "retraining")
    decision, judgement = read_decision(root, run), read_judgement(root, run)
    outcome: Literal["promoted", "refused"] = "refused"
    reason = judgement.reason
    if judgement.passed:
        try:
            champion = _promoted(root, settings, judgement)
            outcome, reason = "promoted", f"change {champion.number}: {judgement.reason}"[:1000]
        except (ConflictError, ExperimentError) as error:
            # Another run was first, or a person has pinned the champion: this one is refused, not broken.
            reason = str(error)[:1000]
    return _ended(root, decision, judgement, outcome, reason, timeline)


def _promoted(root: str, settings: Retraining, judgement: Judgement) -> Champion:
    by = f"run {judgement.run}"
    candidate, number = judgement.candidate, judgement.number
    how = (by, judgement.reason, hand_over, settings.registry)
    return promote(root, settings.champion, candidate, number, "promoted", *how)


def skip_run(retraining: str, root: str, run: str, timeline: Path) -> RetrainingRun:
    """Records that a run had nothing to do. Arguments and errors are those of `promote_run`."""
    decode(Retraining, retraining, "retraining")
    decision = read_decision(root, run)
    return _ended(root, decision, None, "skipped", decision.reason, timeline)


_EVENTS: dict[str, Event] = {
    "promoted": "optduel.champion.promoted",
    "refused": "optduel.gate.refused",
    "skipped": "optduel.run.skipped",
}


def _ended(
    root: str,
    decision: RetrainingDecision,
    judgement: Judgement | None,
    outcome: Literal["promoted", "refused", "skipped"],
    reason: str,
    timeline: Path,
) -> RetrainingRun:
    cost = sum_costs(task_costs(root, decision.run))
    record = RetrainingRun(outcome=outcome, reason=reason, decision=decision, judgement=judgement, cost=cost)
    write_retraining_run(root, record)
    details: dict[str, str | int | float | bool | None] = {"run": decision.run, "images": decision.images}
    for role, standing in zip(
        ("candidate", "champion"), judgement.standings if judgement else (), strict=False
    ):
        details[f"{role}_accuracy"] = round(standing.accuracy.value, 6)
    folder = run_folder(root, decision.run)
    write_notice(
        folder, Notice(event=_EVENTS[outcome], subject=decision.champion, summary=reason, details=details)
    )
    publish(timeline, tell_story(root, decision.champion, decision.run))
    say(f"promote: {outcome}: {reason}")
    return record
