"""The comparison as Kubeflow Pipelines shows it: scalars for its tables and a short page."""

from collections.abc import Sequence

from optduel.components.compare.wording import (
    differences_in_words,
    metric_in_words,
    p_in_words,
    percent,
    signed,
)
from optduel.components.results import ArmSummary, Comparison, PairedComparison, markdown_table
from optduel.components.settings import Metric, Study


def scalars(comparison: Comparison) -> dict[str, float | str]:
    """Names and values for KFP's table of metrics: finite floats, and each answer as a word.

    The names start with the arm, which makes them stable from run to run; they are short, because Kubeflow
    Pipelines makes a column of each. A challenger's are about its difference from the first arm.
    """
    values: dict[str, float | str] = {}
    metric = comparison.comparisons[0].metric
    for arm in comparison.arms:
        medians = {"accuracy": arm.median_accuracy, "cross-entropy": arm.median_cross_entropy}
        if metric not in _ALWAYS_SHOWN:
            medians[metric.replace("_", " ")] = arm.median_score
        values |= {f"{arm.arm} {name}": value for name, value in medians.items() if value is not None}
        if arm.diverged:
            values[f"{arm.arm} diverged"] = float(len(arm.diverged))
    for pair in comparison.comparisons:
        other, needed = pair.other_images, pair.needed
        numbers = {
            "difference": pair.mean_difference,
            "low": pair.interval_low,
            "high": pair.interval_high,
            "p": pair.p_value,
            "images low": other.interval_low if other else None,
            "images high": other.interval_high if other else None,
            "seeds needed": needed.seeds if needed else None,
            "images needed": needed.examples if needed else None,
        }
        values[f"{pair.challenger} answer"] = f"{pair.better} is better" if pair.better else pair.answer
        if other:
            values[f"{pair.challenger} images answer"] = other.answer
        known = {name: float(number) for name, number in numbers.items() if number is not None}
        values |= {f"{pair.challenger} {name}": number for name, number in known.items()}
    return values


def markdown(study: Study, comparison: Comparison) -> str:
    """The verdict, a table of arms and a table of comparisons, as Markdown."""
    lines = ["# Verdict", ""]
    for pair in comparison.comparisons:
        lines += [f"**{pair.sentence}**", ""]
    if comparison.cautions:
        lines += ["Mind:", "", *(f"- {caution}" for caution in comparison.cautions), ""]
    metric, level = metric_in_words(study.metric, comparison.split), percent(study.confidence)
    others: list[Metric] = [one for one in _ALWAYS_SHOWN if one != study.metric]
    lines += [
        *markdown_table(
            (
                "arm",
                f"median {metric}",
                "min",
                "max",
                *(f"median {metric_in_words(one, comparison.split)}" for one in others),
                "seeds",
                "diverged",
            ),
            [_arm_cells(arm, study.metric, others) for arm in comparison.arms],
        ),
        "",
        *markdown_table(
            (
                f"paired difference in {metric}",
                "mean",
                f"{level} interval, these images",
                "p",
                "answer",
                f"{level} interval, images of this kind",
                "answer",
            ),
            [_pair_cells(pair) for pair in comparison.comparisons],
        ),
        "",
        "The first interval holds the means that the sign-flip test does not reject, the second one is for "
        "other seeds and other images. p stays valid when the study is extended and looked at again.",
        "",
    ]
    return "\n".join(lines)


_ALWAYS_SHOWN: tuple[Metric, ...] = ("accuracy", "cross_entropy")


def _arm_cells(arm: ArmSummary, metric: Metric, others: Sequence[Metric]) -> list[str]:
    medians = {"accuracy": arm.median_accuracy, "cross_entropy": arm.median_cross_entropy}
    lowest, highest = (min(arm.scores), max(arm.scores)) if arm.scores else (None, None)
    scores = [_cell(metric, value) for value in (arm.median_score, lowest, highest)]
    counts = [str(len(arm.seeds)), str(len(arm.diverged))]
    return [arm.arm, *scores, *(_cell(one, medians[one]) for one in others), *counts]


def _cell(metric: Metric, value: float | None) -> str:
    if value is None:
        return "none"
    return f"{value:.4f}" if metric == "cross_entropy" else f"{100 * value:.2f} %"


def _pair_cells(pair: PairedComparison) -> list[str]:
    difference = f"{pair.challenger} minus {pair.baseline}"
    if pair.mean_difference is None:
        return [difference, "none", "none", "none", pair.answer, "none", "none"]
    other = pair.other_images
    bounds = pair.interval_low, pair.interval_high
    beyond = (other.interval_low, other.interval_high) if other else (None, None)
    (mean,), unit = differences_in_words(pair.metric, [pair.mean_difference])
    p_value = "none" if pair.p_value is None else p_in_words(pair.p_value, pair.confidence)
    return [
        difference,
        f"{signed(mean)} {unit}",
        _interval(pair, *bounds),
        p_value,
        pair.answer,
        _interval(pair, *beyond),
        other.answer if other else "none",
    ]


def _interval(pair: PairedComparison, low: float | None, high: float | None) -> str:
    if low is None or high is None or pair.mean_difference is None:
        return "none"
    (_, *bounds), _ = differences_in_words(pair.metric, [pair.mean_difference, low, high])
    return " to ".join(bounds)
