"""What a reader is told of a tuning: in the report, and on a page of its own while the study still trains."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from optduel.components.report.drawing import COLOURS, figure_files, figure_style
from optduel.components.report.numbers import ABSENT, decimal, percentage, significant
from optduel.components.report.paging import data_uri, page_environment
from optduel.components.report.tuning_plots import curves_figure, maps_figure
from optduel.components.results import ArmChoice, Choice, TunedSetting
from optduel.components.settings import Experiment

RANKED = 10
"""Settings of each arm that the table shows; the others are in the run's choice.json."""


@dataclass(frozen=True)
class RankedSetting:
    """A line of a rank table; `values` in the order of the paths, `seeds` in that of the tuning seeds."""

    number: int
    values: list[str]
    score: str
    seeds: list[str]
    other: str
    diverged: int


@dataclass(frozen=True)
class ArmTuning:
    """One arm's tuning as the page shows it.

    Attributes:
        changes: for each path: what was typed in, what was chosen, the range.
        price: of the search, with its currency; None where nobody has named prices.
    """

    name: str
    colour: str
    paths: list[str]
    changes: list[tuple[str, str, str, str]]
    rows: list[RankedSetting]
    found: ArmChoice
    coupling: str
    target: str
    seconds: str
    price: str | None


@dataclass(frozen=True)
class TuningView:
    """A tuning as the page shows it."""

    choice: Choice
    metric: str
    arms: list[ArmTuning]
    trials: int
    ranked: int
    has_maps: bool
    has_bands: bool


def tuning_figures(experiment: Experiment, choice: Choice) -> dict[str, bytes]:
    """PNG and SVG files by name; to be called within `figure_style`."""
    files = figure_files("tuning-curves", curves_figure(choice))
    maps = maps_figure(experiment.arms, choice)
    return files if maps is None else files | figure_files("tuning-maps", maps)


def tuning_view(experiment: Experiment, choice: Choice, images: Mapping[str, object]) -> TuningView:
    """The words and numbers that go with the figures.

    Args:
        images: the figures' files, by name.
    """
    return TuningView(
        choice=choice,
        metric=choice.metric.replace("_", "-"),
        arms=[_arm(experiment, choice, index) for index in range(len(choice.arms))],
        trials=len(choice.arms[0].settings),
        ranked=min(RANKED, len(choice.arms[0].settings)),
        has_maps="tuning-maps.svg" in images,
        has_bands=any(point.low is not None for arm in choice.arms for point in arm.curve),
    )


def _arm(experiment: Experiment, choice: Choice, index: int) -> ArmTuning:
    found, arm = choice.arms[index], experiment.arms[index]
    paths = sorted(arm.search)
    target, spent = found.target, found.cost.spent
    return ArmTuning(
        name=found.arm,
        colour=COLOURS[index],
        paths=paths,
        changes=[
            (
                path,
                significant(found.typed[path]),
                significant(found.values[path]),
                " to ".join(significant(end) for end in arm.search[path].ends),
            )
            for path in paths
        ],
        rows=[_row(one, paths, choice) for one in found.settings[:RANKED]],
        found=found,
        coupling=ABSENT
        if found.coupling is None
        else f"{found.coupling.slope:.2f} ± {found.coupling.error:.2f}",
        target=ABSENT
        if target is None
        else "not reached"
        if target.epochs is None
        else f"{significant(target.epochs)} epochs, {significant(target.seconds)} s",
        seconds=significant(found.cost.worker_seconds),
        price=None if spent.price is None else f"{spent.price:.2f} {spent.currency}",
    )


def _row(setting: TunedSetting, paths: Sequence[str], choice: Choice) -> RankedSetting:
    is_loss = choice.metric == "cross_entropy"

    def shown(value: float | None, as_loss: bool) -> str:
        return "diverged" if value is None else decimal(value, 4) if as_loss else percentage(value, 2)

    return RankedSetting(
        number=setting.number,
        values=[significant(setting.values[path]) for path in paths],
        score=shown(setting.median(choice.metric), is_loss),
        seeds=[shown(trial.score(choice.metric), is_loss) for trial in setting.trials],
        other=shown(setting.median("accuracy" if is_loss else "cross_entropy"), not is_loss),
        diverged=sum(trial.diverged is not None for trial in setting.trials),
    )


def tuning_page(experiment: Experiment, choice: Choice) -> str:
    """One HTML file that needs nothing beside it, readable in a panel of 300 pixels."""
    with figure_style():
        figures = tuning_figures(experiment, choice)
    images = {name: data_uri(content) for name, content in figures.items() if name.endswith(".svg")}
    template = page_environment().get_template("tuning_page.html")
    return template.render(
        experiment=experiment, tuning=tuning_view(experiment, choice, images), images=images
    )
