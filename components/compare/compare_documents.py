"""The compare stage's two calls, from the documents of the stages before to those of this one."""

import json
from collections.abc import Sequence
from pathlib import Path

from optduel.components.compare.collect import collect
from optduel.components.compare.compare import compare_arms
from optduel.components.compare.summary import markdown, scalars
from optduel.components.core.narration import say
from optduel.components.results.documents import Trial, Trials, read_document, write_document
from optduel.components.settings.authoring import decode
from optduel.components.settings.experiment import Study
from optduel.components.storage.objects import publish


def collect_documents(previous: Path | None, trials: Sequence[Path], collected: Path) -> None:
    """Writes the trials collected before and these ones, one document each, as one document.

    Args:
        previous: what an earlier call wrote; None in the first call.

    Raises:
        DataError: the trials do not belong together.
        StorageError: a document cannot be read or written.
    """
    before = read_document(previous, Trials) if previous else None
    write_document(collected, collect(before, [read_document(trial, Trial) for trial in trials]))


def compare_documents(
    study: str, arms: str, collected: Path, comparison: Path, summary: Path
) -> dict[str, float | str]:
    """Compares the arms, writes the comparison and a Markdown page about it.

    Args:
        study: the experiment's section, JSON.
        arms: names in the experiment's order, a JSON list; the first is the baseline.

    Returns:
        Names and values for KFP's table of metrics.

    Raises:
        DataError: a trial is missing or foreign, or the trials were not evaluated on one split.
        StorageError: a document cannot be read or written.
    """
    questions = decode(Study, study, "study")
    result = compare_arms(questions, json.loads(arms), read_document(collected, Trials))
    write_document(comparison, result)
    publish(summary, markdown(questions, result).encode())
    say(f"compare: {len(result.arms)} arms, {len(questions.seeds)} paired seed(s), by {questions.metric}")
    return scalars(result)
