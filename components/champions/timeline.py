"""A champion's story as one page: scores over runs, promotions and refusals, what changed, who decided."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from optduel.components.champions.champion import Champion, champion_folder
from optduel.components.champions.changing import history
from optduel.components.champions.judgement import RetrainingRun, retraining_runs
from optduel.components.champions.pages import render_page
from optduel.components.results import Interval, run_folder
from optduel.components.storage import join, publish

TIMELINE_NAME = "timeline.html"
"""In the folder of a champion, and of every run for it."""

MOST_RUNS = 200
"""On the page, the newest: four years of weeks."""

_WIDTH, _HEIGHT = 960, 260
_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 12, 12, 40


@dataclass(frozen=True)
class Mark:
    """One run on the chart, in pixels; `y`, `low` and `high` are None where it measured nothing."""

    x: float
    y: float | None
    low: float | None
    high: float | None
    outcome: str
    label: str


def tell_story(root: str, name: str, run: str | None = None) -> bytes:
    """Tells a champion's story anew, where it is found by the champion's name, and in the folder of a run.

    Args:
        run: that has changed the story, if one has.

    Returns:
        The page: HTML that loads nothing and runs no script.

    Raises:
        StorageError: a place cannot be read or written.
        DataError: a document in the champion's folder is damaged.
    """
    page = timeline_page(root, name).encode()
    if run is not None:
        publish(join(run_folder(root, run), TIMELINE_NAME), page)
    publish(join(champion_folder(root, name), TIMELINE_NAME), page)
    return page


def timeline_page(root: str, name: str) -> str:
    """The page. Raises as `tell_story` does."""
    changes, runs = history(root, name), retraining_runs(root, name)[-MOST_RUNS:]
    scores = [_score(run) for run in runs]
    return render_page(
        Path(__file__).parent / "templates" / "timeline.html",
        name=name,
        champion=changes[-1] if changes else None,
        changes=list(reversed(changes)),
        runs=list(reversed(list(zip(runs, scores, strict=True)))),
        marks=_marks(runs, scores),
        ticks=_ticks(scores),
        width=_WIDTH,
        height=_HEIGHT,
        left=_LEFT,
        right=_RIGHT,
    )


def _score(run: RetrainingRun) -> Interval | None:
    """The candidate's accuracy on the images that both were judged by, or on the whole test split."""
    judgement = run.judgement
    if judgement is None:
        return None
    return judgement.standings[0].accuracy if judgement.standings else judgement.candidate.accuracy


def _scale(scores: Sequence[Interval | None]) -> tuple[float, float]:
    known = [score for score in scores if score is not None]
    low = min((score.low for score in known), default=0.0)
    high = max((score.high for score in known), default=1.0)
    return (low, high) if high > low else (low - 0.01, high + 0.01)


def _y(value: float, scores: Sequence[Interval | None]) -> float:
    low, high = _scale(scores)
    return round(_TOP + (high - value) / (high - low) * (_HEIGHT - _TOP - _BOTTOM), 1)


def _marks(runs: Sequence[RetrainingRun], scores: Sequence[Interval | None]) -> list[Mark]:
    step = (_WIDTH - _LEFT - _RIGHT) / max(1, len(runs))
    marks = []
    for index, (run, score) in enumerate(zip(runs, scores, strict=True)):
        marks.append(
            Mark(
                x=round(_LEFT + (index + 0.5) * step, 1),
                y=_y(score.value, scores) if score else None,
                low=_y(score.low, scores) if score else None,
                high=_y(score.high, scores) if score else None,
                outcome=run.outcome,
                label=run.decision.time[:10],
            )
        )
    return marks


def _ticks(scores: Sequence[Interval | None]) -> list[tuple[float, str]]:
    low, high = _scale(scores)
    values = [low + (high - low) * part / 4 for part in range(5)]
    return [(_y(value, scores), f"{100 * value:.1f} %") for value in values]


def story(changes: Sequence[Champion]) -> list[str]:
    """Each change in a line, for people."""
    return [
        f"{change.number:>4}  {change.time}  {change.action:<11}  run {change.candidate.run}  "
        f"{change.candidate.arm.name}, accuracy {100 * change.candidate.accuracy.value:.2f} %  "
        f"by {change.by}: {change.reason}"
        for change in changes
    ]
