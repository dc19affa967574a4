import io
import unicodedata
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.axes import Axes
from matplotlib.collections import FillBetweenPolyCollection
from matplotlib.figure import Figure
from PIL import Image

from optduel.components.core import DataError
from optduel.components.report.class_labels import shortened
from optduel.components.report.diagnostics import (
    ROC_PANELS,
    calibration_figure,
    confusion_figure,
    pooled_calibration,
    pooled_confusion,
    roc_figure,
)
from optduel.components.report.drawing import (
    COLOURS,
    MARKERS,
    figure_files,
    figure_style,
    missing_letters,
    printable,
)
from optduel.components.report.plots import (
    accuracy_figure,
    curve,
    loss_parts_figure,
    losses_figure,
    plot_subject,
)
from optduel.components.results import epochs_of

SVG = "{http://www.w3.org/2000/svg}"


def arms_of(study) -> dict:
    return {arm.name: study.trials.of(arm.name) for arm in study.experiment.arms}


def only_axes(figure: Figure) -> Axes:
    (axes,) = figure.axes
    return axes


def bands(axes: Axes) -> list[FillBetweenPolyCollection]:
    return [found for found in axes.collections if isinstance(found, FillBetweenPolyCollection)]


@pytest.mark.parametrize(
    ("draw", "title", "column"),
    [
        (losses_figure, "AdamW vs SGD with L2 Losses", "total"),
        (accuracy_figure, "AdamW vs SGD with L2 Accuracy", "accuracy"),
    ],
)
def test_plots_of_the_tutorial(study, draw, title: str, column: str) -> None:
    with figure_style():
        axes = only_axes(draw(plot_subject(study.experiment.arms), arms_of(study)))

    assert axes.get_title() == title
    assert axes.get_xlabel() == "# epochs"
    lines = axes.get_lines()
    assert [line.get_label() for line in lines] == [
        "sgd-l2 train",
        "sgd-l2 validation",
        "adamw train",
        "adamw validation",
    ]
    assert [line.get_linestyle() for line in lines] == ["-", "--", "-", "--"]
    assert lines[0].get_color() == lines[1].get_color() != lines[2].get_color() == lines[3].get_color()
    assert [text.get_text() for text in axes.get_legend().get_texts()] == [line.get_label() for line in lines]
    for line, band, (arm, split) in zip(
        lines,
        bands(axes),
        [(a, s) for a in ("sgd-l2", "adamw") for s in ("train", "validation")],
        strict=True,
    ):
        rows = [epochs_of(trial.history, split) for trial in study.trials.of(arm)]
        values = np.array([[getattr(row, column) for row in history] for history in rows])
        assert np.array_equal(line.get_xdata(), np.arange(1, 9))
        assert np.allclose(line.get_ydata(), np.median(values, axis=0))
        vertices = band.get_paths()[0].vertices
        assert vertices[:, 1].min() == pytest.approx(values.min())
        assert vertices[:, 1].max() == pytest.approx(values.max())


def test_loss_is_taken_apart_in_one_figure(study) -> None:
    with figure_style():
        parts = loss_parts_figure(arms_of(study)).axes
    assert [axes.get_title() for axes in parts] == ["Cross-entropy", "L2 penalty", "Total: what is minimized"]
    cross_entropy, penalty, total = ([line.get_ydata() for line in axes.get_lines()] for axes in parts)
    assert len(total) == 4
    # Every seed has the same penalty, so that the medians add up too.
    assert np.allclose(np.array(cross_entropy) + np.array(penalty), total)
    assert np.array_equal(penalty[2], np.zeros(8))  # decoupled decay is no part of the loss


def test_titles_of_other_arms_are_their_names(make_study) -> None:
    sgdw = {"name": "b", "optimizer": "sgdw", "learning_rate": {"schedule": "constant", "base": 0.1}}
    first = {"name": "a", "optimizer": "sgd", "learning_rate": {"schedule": "constant", "base": 0.1}}
    study = make_study(arms=(first, sgdw), seeds=1, epochs=2)
    assert plot_subject(study.experiment.arms) == "a vs b"
    with figure_style():
        assert only_axes(losses_figure("a vs b", arms_of(study))).get_title() == "a vs b Losses"
    twins = make_study(arms=(first, {**first, "name": "c"}), seeds=1, epochs=2)
    assert plot_subject(twins.experiment.arms) == "a vs c"
    adamw = {**sgdw, "name": "x", "optimizer": "adamw"}
    assert (
        plot_subject(make_study(arms=(adamw, first), seeds=1, epochs=1).experiment.arms)
        == "AdamW vs SGD with L2"
    )


def test_one_seed_has_lines_without_bands_and_one_epoch_has_marks(make_study) -> None:
    study = make_study(seeds=1, epochs=1)
    with figure_style():
        axes = only_axes(losses_figure("x", arms_of(study)))
    assert len(axes.get_lines()) == 4
    assert bands(axes) == []
    assert all(line.get_marker() not in ("", "None") for line in axes.get_lines())
    low, high = axes.get_xlim()
    assert low < 1 < high
    assert {tick for tick in axes.get_xticks() if low <= tick <= high} <= {0, 1, 2}


def test_history_with_a_missing_epoch_is_named(study) -> None:
    first, second, *_ = study.trials.of("adamw")
    late = [row for row in second.history if row.epoch > 2]
    gap = second.model_copy(update={"history": tuple(late)})
    with pytest.raises(DataError, match=r"trial adamw, seed 1: train epochs = \[3, 4, "):
        curve([first, gap], "train", "total")
    with pytest.raises(DataError, match=r"validation epochs = \[\]"):
        curve([first.model_copy(update={"history": ()})], "validation", "total")


def test_a_curve_goes_on_with_the_trials_that_have_not_ended(study) -> None:
    first, second, *_ = study.trials.of("adamw")
    whole, alone = curve([first, second], "validation", "accuracy"), curve([first], "validation", "accuracy")
    early = tuple(row for row in second.history if row.epoch <= 3)
    cut = curve([first, second.model_copy(update={"history": early})], "validation", "accuracy")
    np.testing.assert_array_equal(cut.epochs, whole.epochs)
    np.testing.assert_array_equal(cut.median[:3], whole.median[:3])
    np.testing.assert_array_equal(cut.median[3:], alone.median[3:])


def test_files_are_a_picture_and_a_drawing_and_reproducible(study) -> None:
    def draw() -> dict[str, bytes]:
        with figure_style():
            return figure_files("losses", losses_figure("AdamW vs SGD with L2", arms_of(study)))

    files = draw()
    assert sorted(files) == ["losses.png", "losses.svg"]
    with Image.open(io.BytesIO(files["losses.png"])) as image:
        assert image.format == "PNG"
        assert image.size == (1125, 750)
        assert len(image.convert("RGB").getcolors(1 << 24)) > 50  # something is drawn
    root = ElementTree.fromstring(files["losses.svg"])
    assert root.tag == f"{SVG}svg"
    assert {element.tag.removeprefix(SVG) for element in root.iter()}.isdisjoint({"script", "image", "a"})
    assert draw() == files


def test_roc_curves_lie_between_their_seeds(study) -> None:
    arms = arms_of(study)
    with figure_style():
        panels = [axes for axes in roc_figure(arms).axes if axes.get_visible()]
    assert [axes.get_title() for axes in panels] == list("0123456789")
    for index, axes in enumerate(panels):
        for line, trials in zip(axes.get_lines(), arms.values(), strict=False):
            x, y = line.get_data()
            assert (x[0], y[0], x[-1], y[-1]) == (0, 0, 1, 1)
            areas = [trial.evaluation.classes[index].area_under_roc for trial in trials]
            assert min(areas) - 0.02 <= np.trapezoid(y, x) <= max(areas) + 0.02


def test_confusion_and_calibration_pool_the_seeds(study) -> None:
    trials = study.trials.of("adamw")
    counts = pooled_confusion(trials)
    assert counts.sum() == 6 * 360
    assert np.trace(counts) == round(sum(360 * trial.evaluation.accuracy.value for trial in trials))
    with figure_style():
        axes = only_axes(confusion_figure("adamw", trials))
    assert [text.get_text() for text in axes.texts] == [str(count) for count in counts.ravel()]
    assert axes.get_ylabel() == "true"

    confidence, accuracy, share = pooled_calibration(trials)
    assert share.sum() == pytest.approx(1)
    assert accuracy @ share == pytest.approx(np.mean([trial.evaluation.accuracy.value for trial in trials]))
    assert (np.diff(confidence) > 0).all()
    with figure_style():
        labels = [line.get_label() for line in only_axes(calibration_figure(arms_of(study))).get_lines()]
    assert labels == ["calibrated", "sgd-l2", "adamw"]


def test_many_classes_show_the_hardest_and_no_crowded_labels(make_study) -> None:
    study = make_study(classes=tuple(f"class {index}" for index in range(60)), seeds=1, epochs=1)
    areas = {entry.name: 1.0 for entry in study.trials.trials[0].evaluation.classes}
    for trial in study.trials.trials:
        for entry in trial.evaluation.classes:
            areas[entry.name] = min(areas[entry.name], entry.area_under_roc)
    with figure_style():
        shown = {axes.get_title() for axes in roc_figure(arms_of(study)).axes if axes.get_visible()}
        matrix = only_axes(confusion_figure("adamw", study.trials.of("adamw")))
    assert len(shown) == ROC_PANELS
    assert max(areas[name] for name in shown) <= min(
        area for name, area in areas.items() if name not in shown
    )
    assert "class 0" not in [label.get_text() for label in matrix.get_yticklabels()]
    assert len(matrix.texts) == 0


def test_split_of_one_class_has_no_roc_figure(make_study) -> None:
    study = make_study(classes=("only",), seeds=1, epochs=1)
    with figure_style():
        assert roc_figure(arms_of(study)) is None


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a$b$", "a$b$"),
        ("naïve", "naïve"),
        ("x\ny", "x□y"),
        ("\U00013000", "□"),
        ("عباد الشمس", "عباد الشمس"),
    ],
)
def test_any_name_can_be_drawn(text: str, shown: str) -> None:
    assert printable(text) == shown


@pytest.mark.parametrize(
    ("package", "names"),
    [
        ("noto_cjk_sans_jp_regular", ("向日葵", "ひまわり", "해바라기", "玫瑰")),
        ("fontpkg_noto_sans_devanagari", ("सूरजमुखी", "क्षत्रिय")),
    ],
)
def test_names_in_other_scripts_are_drawn_in_their_letters(
    make_study, package: str, names: tuple[str, ...]
) -> None:
    pytest.importorskip(package)
    assert not missing_letters(names)
    study = make_study(classes=names, seeds=1, epochs=1)
    with figure_style(names):
        figure = confusion_figure("adamw", study.trials.of("adamw"))
        labels = [label.get_text() for label in only_axes(figure).get_yticklabels()]
        figure_files("confusion", figure)  # a letter that no font has would be a warning
    assert labels == list(names)


def test_letters_that_no_font_has_are_named() -> None:
    assert missing_letters(["cat", "\U00013000\U00013001"]) == {"\U00013000", "\U00013001"}


PLANTS = [
    "Corn_(maize)___Cercospora_leaf_spot Gray_leaf_spot",
    "Corn_(maize)___Common_rust_",
    "Corn_(maize)___Northern_Leaf_Blight",
    "Corn_(maize)___healthy",
]


def test_long_names_are_shortened_in_the_middle_and_stay_apart() -> None:
    assert shortened(PLANTS, 14) == ["Corn_(…af_spot", "Corn_(…n_rust_", "Corn_(…_Blight", "Corn_(…healthy"]
    assert shortened(["cat", "a" * 15], 14) == ["cat", "aaaaaa…aaaaaaa"]
    assert shortened(["x" * 30 + "one" + "y" * 30, "x" * 30 + "two" + "y" * 30], 14) == [
        "…xxoneyyyyyyy…",
        "…xxtwoyyyyyyy…",
    ]


@given(
    names=st.lists(
        st.text(st.sampled_from("ab_向क्षि\u0301é"), min_size=1, max_size=40),
        min_size=1,
        max_size=12,
        unique=True,
    ),
    columns=st.integers(8, 30),
)
def test_shortened_names_fit_and_differ(names: list[str], columns: int) -> None:
    found = shortened(names, columns)
    assert len(set(found)) == len(names)
    for name, text in zip(names, found, strict=True):
        letters = [sign for sign in text if unicodedata.category(sign)[0] != "M"]
        assert sum(1 + (unicodedata.east_asian_width(sign) in "WF") for sign in letters) <= columns
        if text == name:
            continue
        assert "…" in text


def test_twelve_arms_are_told_apart_on_the_panels() -> None:
    def luminance(colour: str) -> float:
        channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
        return float(np.dot([0.2126, 0.7152, 0.0722], linear))

    assert len(set(COLOURS)) == len(set(MARKERS)) == 12
    for colour in COLOURS:
        assert (luminance("#E5E5E5") + 0.05) / (luminance(colour) + 0.05) >= 3  # WCAG 2.2, 1.4.11
