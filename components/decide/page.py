"""The page about what has changed since the champion was trained."""

from collections.abc import Sequence
from pathlib import Path

from optduel.components.champions import Champion, RetrainingDecision, render_page
from optduel.components.decide.changes import Changes
from optduel.components.records import Manifest, Originals

_DRIFT_LEVEL = 0.05
_UNKNOWN = "unknown"


def changes_page(
    decision: RetrainingDecision, champion: Champion | None, manifest: Manifest, changes: Changes | None
) -> str:
    """One HTML page that loads nothing and runs no script.

    Args:
        decision: what the run has to do.
        champion: that today's images are compared with; None where there is none.
        manifest: of today's records.
        changes: between the two; None without a champion.
    """
    splits = ", ".join(f"{split.records:,} {name}" for name, split in manifest.splits.items())
    facts = [
        ("images", f"{decision.images:,} ({splits})"),
        *([] if champion else [("exact copies in today's data", f"{manifest.duplicates.images:,}")]),
        ("left out of today's data", f"{len(manifest.skipped):,}"),
        ("data fingerprint", decision.data_fingerprint),
        ("experiment fingerprint", decision.fingerprint),
        ("code version", decision.code_version),
    ]
    if champion is not None:
        before = sum(champion.candidate.images.values())
        facts.insert(1, ("images of the champion's data", f"{before:,}"))
    return render_page(
        Path(__file__).parent / "templates" / "changes.html",
        decision=decision,
        champion=champion,
        facts=facts,
        drift=_drift(decision),
        sources=_sources(champion, manifest) if champion else [],
        spreads=[changes.brightness] if changes and changes.brightness else [],
    )


def _sources(champion: Champion, manifest: Manifest) -> list[tuple[str, str, str]]:
    """What images were before they became records: quantity, of the champion's data, of today's."""
    copies, before, now = champion.candidate.copies, champion.candidate.originals, manifest.originals
    return [
        ("formats", _formats(before), _formats(now)),
        ("width, pixels", _marks(before.widths), _marks(now.widths)),
        ("height, pixels", _marks(before.heights), _marks(now.heights)),
        ("exact copies", _UNKNOWN if copies is None else f"{copies:,}", f"{manifest.duplicates.images:,}"),
    ]


def _formats(originals: Originals) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in originals.formats.items()) or _UNKNOWN


def _marks(marks: Sequence[int]) -> str:
    if not marks:
        return _UNKNOWN
    least, quarter, median, three_quarters, most = marks
    return f"{median:,} ({least:,} to {most:,}; half of them {quarter:,} to {three_quarters:,})"


def _drift(decision: RetrainingDecision) -> str | None:
    p_value = decision.drift_p_value
    if p_value is None:
        return None
    found = (
        "The added images have other class shares than the champion's"
        if p_value < _DRIFT_LEVEL
        else "Nothing shows that the added images have other class shares than the champion's"
    )
    return f"{found} (chi-squared test, p = {p_value:.2g})."
