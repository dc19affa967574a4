"""Builds the report: one HTML page that needs nothing beside it, figures as files, and a short summary."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import yaml

from optduel.components.core import DataError, say
from optduel.components.records import Records, data_cautions, describe
from optduel.components.report import diagnostics, differences, outcomes, plots, training_recipe
from optduel.components.report import provenance as lineage
from optduel.components.report.arm_cards import (
    SPARKLINE_HEIGHT,
    SPARKLINE_WIDTH,
    arm_cards,
    decay_notes,
)
from optduel.components.report.drawing import figure_files, figure_style, missing_letters
from optduel.components.report.outcomes import metric_rows
from optduel.components.report.paging import data_uri, page_environment
from optduel.components.report.tuning_page import tuning_figures, tuning_view
from optduel.components.results import (
    Choice,
    Comparison,
    DivergedTrial,
    TaskCost,
    Trial,
    Trials,
    divergence_cautions,
    markdown_table,
    sum_costs,
)
from optduel.components.settings import FIRST_SHARE, Experiment, cautions

_LETTERS_TOLD = 20
"""Of those that no font has."""


@dataclass(frozen=True)
class Report:
    """The result of a study, ready to be looked at.

    Attributes:
        html: the page; it loads nothing and runs no script.
        figures: PNG and SVG files by name, for example "losses.svg".
        summary: Markdown, for the run page of Kubeflow Pipelines.
    """

    html: str
    figures: dict[str, bytes]
    summary: str


def build_report(
    experiment: Experiment,
    records: Records,
    trials: Trials,
    comparison: Comparison,
    costs: Sequence[TaskCost] = (),
    choice: Choice | None = None,
) -> Report:
    """Renders a finished study. Equal input gives equal bytes.

    Args:
        trials: of all arms and seeds of the experiment.
        comparison: of these trials.
        costs: of the run's tasks, as far as they are known.
        choice: what tuning has found, where the study tuned.

    Raises:
        DataError: the parts do not belong to one study, or a history is incomplete.
    """
    _check_parts(experiment, records, trials, comparison)
    compared = trials.paired()
    arms = {arm.name: compared.of(arm.name) for arm in experiment.arms}
    figures = _draw(experiment, arms) if compared.trials else {}
    train_examples = records.manifest.splits["train"].records
    arms_trained = choice.settled(experiment.arms) if choice else experiment.arms
    cards = arm_cards(arms_trained, experiment.training, train_examples)
    if choice:
        with figure_style():
            figures |= tuning_figures(experiment, choice)
    images = {name: data_uri(content) for name, content in figures.items() if name.endswith(".svg")}
    known = trials.ended()
    ended = {trial: known[trial] for trial in itertools.product(arms, experiment.study.seeds)}
    found = [
        *divergence_cautions(list(arms), experiment.study.seeds, trials),
        *data_cautions(records.manifest),
        *cautions(experiment, train_examples, [trial.evaluation for trial in trials.trials]),
    ]
    html = (
        page_environment()
        .get_template("page.html")
        .render(
            experiment=experiment,
            arms=arms,
            ended=ended,
            compared=sorted({trial.training.seed for trial in compared.trials}),
            cards=cards,
            decay_notes=decay_notes(cards),
            comparison=comparison,
            examples=records.manifest.splits[comparison.split].records,
            verdicts=list(
                zip(comparison.comparisons, differences.difference_plots(comparison.comparisons), strict=True)
            ),
            components=differences.component_rows(comparison.comparisons),
            first_share=FIRST_SHARE,
            cautions=found,
            images=images,
            tuning=tuning_view(experiment, choice, images) if choice else None,
            described=plots.describe(arms),
            few_arms=len(arms) <= plots.FEW_ARMS,
            subject=plots.plot_subject(experiment.arms),
            recipe=training_recipe.recipe_rows(experiment),
            samples=training_recipe.samples(experiment, records),
            best_and_last=training_recipe.best_and_last(experiment, arms),
            metrics=outcomes.metric_rows(arms),
            classes=outcomes.class_rows(arms) if compared.trials else [],
            confusions={name: outcomes.frequent_confusions(members) for name, members in arms.items()},
            roc_classes=len(diagnostics.hardest_classes(arms)),
            records=describe(records),
            data_fingerprint=records.manifest.fingerprint,
            costs=costs,
            cost=sum_costs(costs),
            environments=lineage.environments(list(ended.values())),
            trial_times=lineage.trial_times,
            yaml=_as_yaml(experiment),
            sparkline_size=(SPARKLINE_WIDTH, SPARKLINE_HEIGHT),
            strip_width=differences.WIDTH,
        )
    )
    return Report(html, figures, summary_page(experiment, arms, comparison, found))


def _check_parts(experiment: Experiment, records: Records, trials: Trials, comparison: Comparison) -> None:
    names = [arm.name for arm in experiment.arms]
    everyone: list[Trial | DivergedTrial] = [*trials.trials, *trials.diverged]
    found = sorted((trial.training.arm, trial.training.seed) for trial in everyone)
    wanted = sorted((name, seed) for name in names for seed in experiment.study.seeds)
    if found != wanted:
        raise DataError(f"trials = {found}: must be those of the experiment, {wanted}")
    if [arm.arm for arm in comparison.arms] != names:
        raise DataError(
            f"comparison.arms: must be those of the experiment, {', '.join(names)}; compare again"
        )
    study = experiment.study
    for trial in everyone:
        # The records are those of the first seed, where every seed has its own.
        is_of_these = not study.vary_split or trial.training.seed == study.seeds[0]
        if is_of_these and trial.training.data_fingerprint != records.manifest.fingerprint:
            raise DataError(
                f"trial {trial.training.arm}, seed {trial.training.seed}: was trained on other records, "
                f"{trial.training.data_fingerprint}; the report needs {records.manifest.fingerprint}"
            )

    for trial in trials.trials if experiment.training.early_stopping is None else ():
        if (last := trial.history[-1].epoch if trial.history else 0) != experiment.training.epochs:
            raise DataError(
                f"trial {trial.training.arm}, seed {trial.training.seed}: its history ends with epoch {last} "
                f"of {experiment.training.epochs}; train again"
            )


def _draw(experiment: Experiment, arms: Mapping[str, Sequence[Trial]]) -> dict[str, bytes]:
    subject = plots.plot_subject(experiment.arms)
    trial = next(trials[0] for trials in arms.values() if trials)
    names = [entry.name for entry in trial.evaluation.classes]
    if missing := missing_letters(names):
        letters = " ".join(sorted(missing)[:_LETTERS_TOLD])
        say(f"report: figures show boxes for letters of class names that no font here has: {letters}")
    with figure_style(names):
        figures = {
            "losses": plots.losses_figure(subject, arms),
            "accuracy": plots.accuracy_figure(subject, arms),
            "loss-parts": plots.loss_parts_figure(arms),
            "roc": diagnostics.roc_figure(arms),
            "calibration": diagnostics.calibration_figure(arms),
            **{
                f"confusion-{arm}": diagnostics.confusion_figure(arm, trials)
                for arm, trials in arms.items()
                if trials
            },
        }
        files: dict[str, bytes] = {}
        for name, figure in figures.items():
            if figure is not None:
                files |= figure_files(name, figure)
    return files


def _as_yaml(experiment: Experiment) -> str:
    fields = experiment.model_dump(mode="json")
    return yaml.safe_dump(fields, sort_keys=False, allow_unicode=True, default_flow_style=None, width=100)


def summary_page(
    experiment: Experiment,
    arms: Mapping[str, Sequence[Trial]],
    comparison: Comparison,
    cautions: Sequence[str],
) -> str:
    """Verdict, cautions and the table of final results."""
    seeds = max(len(trials) for trials in arms.values())
    lines = [f"# {_plain(experiment.title)}", ""]
    for pair in comparison.comparisons:
        lines += [f"**{pair.sentence}**", ""]
    if cautions:
        lines += [*(f"- {caution}" for caution in cautions), ""]
    lines += [
        f"Final results on the {comparison.split} split: median (smallest to largest) of {seeds} "
        f"seed{'' if seeds == 1 else 's'}.",
        "",
        *markdown_table(
            ["metric", *arms],
            [
                [
                    f"{row.name} ({row.better} is better)",
                    *(f"{spread.median} ({spread.low} to {spread.high})" for spread in row.arms),
                ]
                for row in metric_rows(arms)
            ],
        ),
    ]
    return "\n".join([*lines, "", "The whole report is the artifact `page` of this task."]) + "\n"


def _plain(text: str) -> str:
    """Text that Markdown and the HTML in it leave alone."""
    return "".join(f"\\{character}" if character in "\\`*_[]<>&#|" else character for character in text)
