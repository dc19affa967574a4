"""What the last stages hand to each other: a trial's evaluation, all trials, and the comparison of arms."""

from collections.abc import Iterable, Sequence
from typing import Annotated, Any, Literal, TypeVar

from pydantic import Field

from optduel.components.core import DataError, ExperimentError
from optduel.components.results.history import Row
from optduel.components.results.lineage import Environment
from optduel.components.settings import Metric, Section, decode
from optduel.components.storage import Location, publish, read


class Interval(Section):
    """A measured value between the bounds of its confidence interval."""

    value: float
    low: float
    high: float


class ClassMetrics(Section):
    """Metrics of one class against the rest.

    Attributes:
        examples: examples of the class.
        recall: with its Wilson interval; the class's accuracy.
        area_under_roc: None when the split holds only this class or none of it.
        roc: points (false positive rate, true positive rate, threshold) from (0, 0) to (1, 1), thinned
            to at most 101; thresholds are probabilities, the first one is 1. Empty where the area is None.
    """

    name: str
    examples: int
    precision: float
    recall: Interval
    f1: float
    area_under_roc: float | None
    roc: tuple[tuple[float, float, float], ...]


class CalibrationBin(Section):
    """Examples whose largest probability lies in one of ten equal bins: mean confidence and accuracy."""

    low: float
    high: float
    examples: int
    confidence: float
    accuracy: float


class Evaluation(Section):
    """A trained model on a split it never learned from; `value` gives each metric of a verdict.

    Attributes:
        split: "test", or "validation" where the data set has no test split.
        accuracy: with its Wilson interval.
        cross_entropy: mean in nats, with the normal-theory interval of the mean.
        confusion: rows are true classes, columns predicted ones.
        expected_calibration_error: mean distance of confidence and accuracy over the bins, weighted by size.
        model_sha256: of the model file that was evaluated.
    """

    arm: str
    seed: int
    split: Literal["test", "validation"]
    examples: int
    accuracy: Interval
    cross_entropy: Interval
    macro_f1: float
    macro_area_under_roc: float | None
    classes: tuple[ClassMetrics, ...]
    confusion: tuple[tuple[int, ...], ...]
    calibration: tuple[CalibrationBin, ...]
    expected_calibration_error: float
    model_sha256: str

    def value(self, metric: Metric) -> float | None:
        """The metric; None for the area under the ROC where the split holds one class only."""
        match metric:
            case "accuracy":
                return self.accuracy.value
            case "cross_entropy":
                return self.cross_entropy.value
            case "macro_f1":
                return self.macro_f1
            case "area_under_roc":
                return self.macro_area_under_roc
            case "balanced_accuracy":
                return self.balanced_accuracy

    @property
    def balanced_accuracy(self) -> float:
        """The mean recall of the classes that the split holds."""
        recalls = [entry.recall.value for entry in self.classes if entry.examples]
        return sum(recalls) / len(recalls)


class _Training(Section):
    """What is told of every trial that has ended.

    Attributes:
        fingerprint: of all that determines the trial's numbers; equal ones are the same trial.
        parameters: trainable weights of the model.
        precision: the dtype policy it was trained with, "float32" or "mixed_bfloat16".
        workers: training processes.
        replicas: devices over all workers.
        seconds: wall time of training, restarts included.
    """

    arm: str
    seed: int
    fingerprint: str
    data_fingerprint: str
    parameters: int
    precision: str
    workers: int
    replicas: int
    started: str
    seconds: float
    environment: Environment


class TrainingRecord(_Training):
    """How one trial was trained: written beside its model, carried to the report."""

    status: Literal["finished"] = "finished"
    model_sha256: str


class Divergence(_Training):
    """How one trial ended whose numbers were not finite any more: a result, in place of the other one.

    Attributes:
        epoch: in which that was, from 1.
        step: optimizer steps done.
        reason: what was not finite.
    """

    status: Literal["diverged"] = "diverged"
    epoch: int
    step: int
    reason: str

    @property
    def text(self) -> str:
        """When and why, for people."""
        return f"{self.reason} not finite at step {self.step}, in epoch {self.epoch}"


_TrainingEnd = Annotated[TrainingRecord | Divergence, Field(discriminator="status")]


class Trial(Section):
    """An arm with a seed: how it trained and how good it is.

    Attributes:
        model: where its model file was when it was evaluated, a path or a URI.
    """

    status: Literal["finished"] = "finished"
    training: TrainingRecord
    history: tuple[Row, ...]
    evaluation: Evaluation
    model: str


class DivergedTrial(Section):
    """An arm with a seed that has no final metrics.

    Attributes:
        history: up to there; it may be empty.
        split: that it would have been evaluated on.
    """

    status: Literal["diverged"] = "diverged"
    training: Divergence
    history: tuple[Row, ...]
    split: Literal["test", "validation"]


_TrialEnd = Annotated[Trial | DivergedTrial, Field(discriminator="status")]


class Trials(Section):
    """All trials so far, in the order of arms and seeds; those that diverged apart."""

    trials: tuple[Trial, ...]
    diverged: tuple[DivergedTrial, ...] = ()

    def of(self, arm: str) -> tuple[Trial, ...]:
        """The trials of one arm that did not diverge."""
        return tuple(trial for trial in self.trials if trial.training.arm == arm)

    def ended(self) -> dict[tuple[str, int], Trial | DivergedTrial]:
        """All trials, by arm and seed."""
        everyone: tuple[Trial | DivergedTrial, ...] = (*self.trials, *self.diverged)
        return {(trial.training.arm, trial.training.seed): trial for trial in everyone}

    def paired(self) -> "Trials":
        """The trials that can be compared: on seeds on which no arm diverged that finished on any.

        An arm's median over the seeds that it survived would be that of its lucky ones.
        """
        finished = {trial.training.arm for trial in self.trials}
        lost = {trial.training.seed for trial in self.diverged if trial.training.arm in finished}
        return Trials(trials=tuple(trial for trial in self.trials if trial.training.seed not in lost))


class ArmSummary(Section):
    """One arm over the seeds that are compared: final metrics, one value per seed, and their medians.

    Attributes:
        seeds: on which every arm finished that finished on any, see `Trials.paired`.
        diverged: the seeds on which this arm did not finish.
        scores: in the study's metric.
        median_accuracy, median_cross_entropy, median_score: None where no seed is left.
    """

    arm: str
    seeds: tuple[int, ...]
    diverged: tuple[int, ...] = ()
    accuracy: tuple[float, ...]
    cross_entropy: tuple[float, ...]
    scores: tuple[float, ...]
    median_accuracy: float | None
    median_cross_entropy: float | None
    median_score: float | None


Answer = Literal["shown", "not shown", "no difference"]


class OtherImages(Section):
    """Whether a difference holds on other images of the kind, not only on those that were measured.

    Attributes:
        interval_low, interval_high: of the mean difference, for other seeds and other images.
        p_value: of the same Student's t, two-sided, valid at all looks, Holm-corrected.
        degrees_of_freedom: of the t.
        examples: images that were measured; of a study whose seeds draw their own splits, by one seed.
        seed_variance, image_variance, rest_variance: of the difference, from one seed to the next, from one
            image to the next, and what is left; None where every seed draws its own split.
        answer: "shown" when the difference is shown on the images that were measured, and p is below
            1 - confidence.
    """

    interval_low: float
    interval_high: float
    p_value: float
    degrees_of_freedom: float
    examples: int
    seed_variance: float | None
    image_variance: float | None
    rest_variance: float | None
    answer: Answer


class Needed(Section):
    """What would show a difference of the size and spread that were found.

    Attributes:
        power: the chance that it would.
        seeds: to show it on the images that were measured, as many as there are where they suffice; None
            where more than a hundred would not do.
        examples: images that show it for others of the kind with so many seeds; None where no number would
            do, or it is not known.
    """

    power: float
    seeds: int | None
    examples: int | None


class PairedComparison(Section):
    """One arm against the first one, paired by seed, in the study's metric.

    Attributes:
        seeds: on which both arms finished.
        looks: numbers of these seeds at which there was a verdict, or could have been; the last one has all.
        differences: challenger minus baseline for each of these seeds.
        mean_difference: their mean, between the bounds of the means that the sign-flip test does not reject;
            None with no seed, as are median and probability. The bounds are None with too few seeds to reject
            any.
        p_value: of the two-sided sign-flip test of the mean, valid at all looks, and Holm-corrected when
            several arms are compared with the first one; None with fewer than two seeds.
        smallest_p_value: the smallest p that this number of seeds can reach; None with fewer than two seeds.
        probability_challenger_better: fraction of seeds won by the challenger, ties counting one half.
        answer: for the images that were measured: "shown" when p is below 1 - confidence; "no difference"
            when accuracy and cross-entropy are equal on every seed; else "not shown". An arm that diverged on
            a seed is never shown to be better: the seeds that it survived are its lucky ones.
        better: the better arm when the answer is "shown", else None.
        other_images: the answer for others of the kind; None with fewer than two seeds or images.
        needed: where something is not shown, what would show it; None with fewer than two seeds, and where an
            arm diverged.
        sentence: the verdict in words.
    """

    baseline: str
    challenger: str
    metric: Metric
    confidence: float
    seeds: tuple[int, ...]
    looks: tuple[int, ...]
    differences: tuple[float, ...]
    median_difference: float | None
    mean_difference: float | None
    interval_low: float | None
    interval_high: float | None
    p_value: float | None
    smallest_p_value: float | None
    probability_challenger_better: float | None
    answer: Answer
    better: str | None
    other_images: OtherImages | None
    needed: Needed | None
    sentence: str


class Comparison(Section):
    """The verdict: every arm summed up, and every other arm compared with the first.

    Attributes:
        split: the split that the metrics were taken on.
        cautions: what a reader must know before believing the numbers, one sentence each.
    """

    split: Literal["test", "validation"]
    arms: tuple[ArmSummary, ...]
    comparisons: tuple[PairedComparison, ...]
    cautions: tuple[str, ...]


Document = TypeVar("Document", bound=Section)


def write_document(location: Location, document: Section) -> None:
    """Writes a document as canonical JSON, atomically."""
    publish(location, document.canonical_json().encode())


def read_document(location: Location, expected: type[Document]) -> Document:
    """Reads a document written by `write_document`.

    Raises:
        StorageError: it cannot be read.
        DataError: it is no such document.
    """
    document: Document = _read(location, expected, expected.__name__)
    return document


def read_training_end(location: Location) -> TrainingRecord | Divergence:
    """Reads what the train stage left of a trial; raises what `read_document` does."""
    end: TrainingRecord | Divergence = _read(location, _TrainingEnd, "TrainingRecord or Divergence")
    return end


def read_trial_end(location: Location) -> Trial | DivergedTrial:
    """Reads what a run has kept of a trial; raises what `read_document` does."""
    end: Trial | DivergedTrial = _read(location, _TrialEnd, "Trial or DivergedTrial")
    return end


def _read(location: Location, expected: Any, name: str) -> Any:
    try:
        return decode(expected, read(location), str(location))
    except ExperimentError as error:
        raise DataError(f"{location}: not a {name} document; run the stage again: {error}") from error


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """The lines of a table in Markdown: text in the first column, numbers in the others.

    Cells carry a space that does not go away: Kubeflow Pipelines' page sets columns side by side.
    """
    lines = [" | &nbsp;&nbsp;".join(cells) for cells in (header, *rows)]
    rule = " | ".join(["---", *["---:"] * (len(header) - 1)])
    return [f"| {line} |" for line in (lines[0], rule, *lines[1:])]
