"""The comparison as Kubeflow Pipelines shows it: scalars for its tables and a short page."""

from optduel.components.compare.wording import (
    differences_in_words,
    metric_in_words,
    p_in_words,
    percent,
    signed,
)
from optduel.components.results import Comparison, PairedComparison
from optduel.components.settings import Study


def scalars(comparison: Comparison) -> dict[str, float | str]:
    """Names and values for KFP's table of metrics: finite floats, and each answer as a word.

    The names start with the arm, which makes them stable from run to run.
    """
    values: dict[str, float | str] = {}
    for arm in comparison.arms:
        values[f"{arm.arm} median accuracy"] = arm.median_accuracy
        values[f"{arm.arm} median cross-entropy"] = arm.median_cross_entropy
    for pair in comparison.comparisons:
        against = f"{pair.challenger} against {pair.baseline}"
        values[f"{against}: answer"] = f"{pair.better} is better" if pair.better else pair.answer
        values[f"{against}: mean difference"] = pair.mean_difference
        values[f"{against}: median difference"] = pair.median_difference
        bounds = (
            ("interval low", pair.interval_low),
            ("interval high", pair.interval_high),
            ("p", pair.p_value),
        )
        values |= {f"{against}: {name}": value for name, value in bounds if value is not None}
    return values


def markdown(study: Study, comparison: Comparison) -> str:
    """The verdict, a table of arms and a table of comparisons, as Markdown."""
    lines = ["# Verdict", ""]
    for pair in comparison.comparisons:
        lines += [f"**{pair.sentence}**", ""]
    if comparison.cautions:
        lines += ["Mind:", "", *(f"- {caution}" for caution in comparison.cautions), ""]
    lines += [
        f"| arm | median {metric_in_words('accuracy', comparison.split)} | min | max "
        f"| median {metric_in_words('cross_entropy', comparison.split)} | seeds |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    lines += [
        f"| {arm.arm} | {100 * arm.median_accuracy:.2f} % | {100 * min(arm.accuracy):.2f} % "
        f"| {100 * max(arm.accuracy):.2f} % | {arm.median_cross_entropy:.4f} | {len(arm.seeds)} |"
        for arm in comparison.arms
    ]
    metric = metric_in_words(study.metric, comparison.split)
    lines += [
        "",
        f"| paired difference in {metric} | mean | BCa interval | p | answer |",
        "| --- | ---: | ---: | ---: | --- |",
        *(_comparison_row(pair) for pair in comparison.comparisons),
        "",
        f"The BCa interval is nominal: made for {percent(study.confidence)}, it covers the mean less often. "
        "Made for 95 %, it did so in 87 % of simulated studies of 6 seeds, 91 % of 12 and 92.5 % of 20.",
        "",
    ]
    return "\n".join(lines)


def _comparison_row(pair: PairedComparison) -> str:
    bounds = [value for value in (pair.interval_low, pair.interval_high) if value is not None]
    (mean, *interval), unit = differences_in_words(pair.metric, [pair.mean_difference, *bounds])
    p_value = "none" if pair.p_value is None else p_in_words(pair.p_value, pair.confidence)
    bounds_text = " to ".join(interval) or "none"
    difference = f"{pair.challenger} minus {pair.baseline} | {signed(mean)} {unit}"
    return f"| {difference} | {bounds_text} | {p_value} | {pair.answer} |"
