"""What trials that diverged mean for a comparison, in words."""

from collections.abc import Sequence

from optduel.components.results.documents import DivergedTrial, Trials

_LISTED = 6
"""Of an arm's trials that diverged; the report lists all."""


def divergence_cautions(arms: Sequence[str], seeds: Sequence[int], trials: Trials) -> list[str]:
    """What is left out of the comparison and why, first which arms diverged; nothing where none did.

    Args:
        arms: names, in the experiment's order.
        seeds: of the study.
    """
    if not trials.diverged:
        return []
    found = []
    for arm in arms:
        lost = [trial for trial in trials.diverged if trial.training.arm == arm]
        if lost:
            more = f" and {len(lost) - _LISTED} more" if len(lost) > _LISTED else ""
            told = "; ".join(_when(trial) for trial in lost[:_LISTED])
            found.append(f"{arm} diverged on {len(lost)} of {_seeds(len(seeds))}: {told}{more}.")
    left = {trial.training.seed for trial in trials.paired().trials}
    verb = "is" if len(left) == 1 else "are"
    found.append(
        f"Seeds on which an arm diverged are left out for every arm: {len(left)} of {_seeds(len(seeds))} "
        f"{verb} compared. What an arm reaches on the seeds that it survives says nothing about the others, "
        "so an arm that diverged is not called better."
    )
    return found


def _when(trial: DivergedTrial) -> str:
    return f"seed {trial.training.seed}, {trial.training.text}"


def _seeds(count: int) -> str:
    return f"{count} seed{'' if count == 1 else 's'}"
