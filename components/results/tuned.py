"""What tuning leaves: every setting that was tried with what came of it, and what was chosen from them."""

import statistics
from collections.abc import Sequence
from typing import Literal

from optduel.components.results.documents import read_document
from optduel.components.results.history import Row
from optduel.components.results.metering import RunCost
from optduel.components.settings import Arm, Section
from optduel.components.storage import join, stat

CHOICE_NAME = "choice.json"
"""In the folder of a run that tuned: the `Choice`."""

TunedMetric = Literal["accuracy", "cross_entropy"]


class TunedTrial(Section):
    """A setting with a seed, on the validation split only; the same whichever run trained it.

    Attributes:
        fingerprint: of all that determines the numbers.
        epoch: whose weights count: the last one, or the best one under early stopping; 0 before the first.
        steps: optimizer steps done.
        seconds: wall time of training, restarts included.
        validation: a row for every epoch.
        diverged: when and why it ended early; None where it finished.
    """

    fingerprint: str
    data_fingerprint: str
    seed: int
    precision: str
    workers: int
    replicas: int
    started: str
    epoch: int
    steps: int
    seconds: float
    validation: tuple[Row, ...]
    diverged: str | None = None

    def score(self, metric: TunedMetric) -> float | None:
        """Of the weights that count; None where it diverged."""
        return None if self.diverged else float(getattr(self.validation[self.epoch - 1], metric))


class TunedSetting(Section):
    """A setting of an arm: its number in the search, its values by path, and a trial for each tuning seed."""

    number: int
    values: dict[str, float]
    trials: tuple[TunedTrial, ...]

    def median(self, metric: TunedMetric) -> float | None:
        """Over the seeds, where one that diverged is worse than all; None where that leaves no number."""
        worst = float("inf") if metric == "cross_entropy" else float("-inf")
        scores = [trial.score(metric) for trial in self.trials]
        found = statistics.median(worst if score is None else score for score in scores)
        return None if abs(found) == float("inf") else found


class TunedSettings(Section):
    """What one task of an arm's tuning leaves."""

    arm: str
    settings: tuple[TunedSetting, ...]


class CurvePoint(Section):
    """The best of so many settings: a search of this size is as likely to find better as worse.

    Attributes:
        low: with `high` the simultaneous confidence band; None where none holds.
    """

    trials: int
    value: float
    low: float | None
    high: float | None


class Coupling(Section):
    """How the best decay moves with the learning rate: the slope of its logarithm over that of the rate.

    Attributes:
        slope: with decay as the paper states it (what a step subtracts, before the rate, of an L2 arm; with
            the rate, of a decoupled one). 0: rate and decay are chosen apart; -1: only their product counts.
        error: its standard error, by the jackknife.
        settings: that it is fitted to.
    """

    slope: float
    error: float
    settings: int


class TuningCost(Section):
    """What an arm's tuning took.

    Attributes:
        worker_seconds: wall time times workers, over all trials.
        spent: by this run's tasks; what an earlier run had trained already is not in it.
    """

    settings: int
    trials: int
    diverged: int
    steps: int
    epochs: float
    worker_seconds: float
    spent: RunCost


class TimeToTarget(Section):
    """After how long the chosen setting reached the target: medians over the tuning seeds.

    Attributes:
        epochs, seconds: None where most seeds never did.
        settings: how many of the arm's settings reached it, by their median seed.
    """

    target: float
    epochs: float | None
    seconds: float | None
    settings: int


class ArmChoice(Section):
    """One arm's search.

    Attributes:
        chosen: the number of the best setting.
        values: of it, by path.
        typed: what the experiment has in these places.
        settings: all that were tried, the best first.
        warnings: what makes the choice doubtful, one sentence each.
    """

    arm: str
    chosen: int
    values: dict[str, float]
    typed: dict[str, float]
    settings: tuple[TunedSetting, ...]
    curve: tuple[CurvePoint, ...]
    coupling: Coupling | None
    cost: TuningCost
    target: TimeToTarget | None
    warnings: tuple[str, ...]


class Choice(Section):
    """What tuning has found, for all arms.

    Attributes:
        confidence: of the curves' bands, over all arms together.
        lead: from which budget on one arm leads, in words.
        warnings: on all arms together; those of one arm are with it.
        claims: the claims of arXiv 1711.05101 about rate and decay, each seen or not seen, with its number.
    """

    metric: TunedMetric
    sampler: str
    seeds: tuple[int, ...]
    confidence: float
    arms: tuple[ArmChoice, ...]
    lead: str
    warnings: tuple[str, ...]
    claims: tuple[str, ...]

    def chosen(self) -> dict[str, dict[str, float]]:
        """The values of each arm's best setting, by arm and path."""
        return {arm.arm: arm.values for arm in self.arms}

    def settled(self, arms: Sequence[Arm]) -> tuple[Arm, ...]:
        """The arms as they were trained: each with its best setting, and nothing to search."""
        found = self.chosen()
        return tuple(arm.with_setting(found[arm.name]) for arm in arms)


def read_choice(run_folder: str) -> Choice | None:
    """What the run's tuning has found; None where it did not tune. Raises as `read_document` does."""
    place = join(run_folder, CHOICE_NAME)
    return read_document(place, Choice) if stat(place) else None


def tuning_task(arm: str) -> str:
    """Under which name the tasks that tune an arm leave what they cost."""
    return f"tune {arm}"


def tuned_folder(run_folder: str, arm: str) -> str:
    """Where an arm's settings are trained, below the folder of the run."""
    return join(run_folder, "tuning", arm)


def tuned_part(run_folder: str, arm: str, part: int) -> str:
    """Where a task of an arm's tuning keeps what came of its settings."""
    return join(tuned_folder(run_folder, arm), f"part-{part}.json")
