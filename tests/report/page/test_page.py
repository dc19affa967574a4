"""A page says what its study found."""

import pytest

from optduel.components.report.provenance import environments
from optduel.components.settings import cautions, parse_experiment


def test_page_loads_nothing_and_runs_nothing(page) -> None:
    page.assert_is_self_contained()
    page.assert_images_are_drawings_with_alternatives()


def test_sections_stand_in_the_order_of_their_importance(page, study) -> None:
    headings = [text for tag, text in page.texts if tag in ("h1", "h2")]
    assert headings == [
        study.experiment.title,
        "Before you believe it",
        "Learning curves",
        "The arms",
        "Final results",
        "Per class",
        "Records",
        "Environment and lineage",
        "How the verdict is reached",
        "The experiment",
    ]
    verdict = page.html.index(study.comparison.comparisons[0].sentence)
    assert verdict < page.html.index("Learning curves")


def test_verdict_has_a_dot_for_each_seed(page, study) -> None:
    (pair,) = study.comparison.comparisons
    assert pair.answer == "shown"
    assert pair.sentence in page.text
    assert {"class": "verdict shown", "aria-label": "Verdict on adamw against sgd-l2"} in page.all("section")
    dots = [text for tag, text in page.texts if tag == "title"][1:]
    assert dots == [
        f"seed {seed}: {100 * difference:+.3g} points"
        for seed, difference in zip(pair.seeds, pair.differences, strict=True)
    ]


@pytest.mark.usefixtures("undrawn")
def test_cautions_and_decay_warnings_are_told_before_the_plots(make_study, parse_page) -> None:
    constant = {"schedule": "constant", "base": 0.001}
    arms = (
        {"name": "sgd-l2", "optimizer": "sgd", "l2": 0.001, "learning_rate": constant},
        {"name": "adamw", "optimizer": "adamw", "weight_decay": 0.001, "learning_rate": constant},
    )
    study = make_study(arms=arms, seeds=1, epochs=2, classes=("cat", "dog"), split="validation")
    page = parse_page(study.report().html)
    before, _, _ = page.text.partition("Learning curves")
    images = study.records.manifest.splits["train"].records
    evaluations = [trial.evaluation for trial in study.trials.trials]
    for caution in study.comparison.cautions:
        assert caution in before
    for caution in cautions(study.experiment, images, evaluations):
        assert caution in before
    assert "adamw: its decay is practically zero." in before
    assert "adamw and sgd-l2 are not regularized alike" in before


def test_arms_are_stated_in_every_convention(page) -> None:
    rows = {row[0].strip(): row[1:] for row in page.table("optimizer")[1:]}
    assert rows["L2 coefficient, Keras × Σw² in the loss"] == ["0.0005", "–"]
    assert rows["L2 coefficient, PyTorch × w in the gradient"] == ["0.001", "–"]
    (weight_decay,) = (
        cells for name, cells in rows.items() if name.startswith("weight decay, Keras and PyTorch")
    )
    assert weight_decay == ["0.01", "0.2"]
    (paper,) = (cells for name, cells in rows.items() if name.startswith("λ of the AdamW paper"))
    assert paper == ["0.0005", "0.0004"]
    assert rows["stated as"] == ["l2", "weight_decay"]
    assert "0.05, cosine to 0; warm-up 1 epoch" in rows["learning rate"][0]
    lines = page.all("polyline")
    assert len(lines) == 2
    assert len((lines[0]["points"] or "").split()) == 60


def test_final_results_are_those_of_the_trials(page, study) -> None:
    header, _, *rows = page.table("seed")
    assert header == ["seed", "sgd-l2", "adamw"]
    assert len(rows) == 6
    for seed, row in enumerate(rows):
        expected = [str(seed)]
        for arm in ("sgd-l2", "adamw"):
            evaluation = study.trials.of(arm)[seed].evaluation
            accuracy = evaluation.accuracy
            expected.append(
                f"{accuracy.value:.2%}{accuracy.low:.1%} to {accuracy.high:.1%}".replace("%", " %")
            )
            expected.append(f"{evaluation.cross_entropy.value:.4f}")
        assert row == expected
    metrics = {row[0]: row[1:] for row in page.table("accuracy higher is better")[1:]}
    arm = study.comparison.arms[1]
    assert metrics["accuracy higher is better"][1] == (
        f"{arm.median_accuracy:.2%}{min(arm.accuracy):.2%} to {max(arm.accuracy):.2%}".replace("%", " %")
    )


def test_classes_have_medians_over_the_seeds(page, study) -> None:
    _, *rows = page.table("precision")
    assert len(rows) == 2 * 10
    name, images, arm, precision, recall, interval, f1, area = rows[0]
    entries = [trial.evaluation.classes[0] for trial in study.trials.of("sgd-l2")]

    def middle(values: list[float]) -> float:
        ordered = sorted(values)
        return (ordered[2] + ordered[3]) / 2

    assert (name, images, arm) == ("0", "36", "sgd-l2")
    assert precision == f"{100 * middle([entry.precision for entry in entries]):.1f} %"
    assert recall == f"{100 * middle([entry.recall.value for entry in entries]):.1f} %"
    assert interval.startswith(f"{100 * middle([entry.recall.low for entry in entries]):.1f} % to ")
    assert f1 == f"{middle([entry.f1 for entry in entries]):.3f}"
    assert area == f"{middle([entry.area_under_roc for entry in entries]):.3f}"


def test_the_confusion_that_stands_out_is_named_first(page, study) -> None:
    _, first, *_ = page.table("taken for")
    count = sum(trial.evaluation.confusion[0][9] for trial in study.trials.of("sgd-l2"))
    assert first == ["sgd-l2", "0", "9", str(count), f"{count / (6 * 36):.1%}".replace("%", " %")]


def test_records_and_lineage_are_complete(page, study) -> None:
    counts = page.table("train")
    assert counts[0] == ["class", "train", "validation", "test", "all", ""]
    assert counts[1] == ["0", "126", "18", "36", "180", ""]
    assert counts[-1] == ["all", "1,260", "180", "360", "1,800", ""]
    assert "5 images are exact copies of one another, in 2 groups" in page.text
    for fact in (
        study.experiment.fingerprint,
        study.records.manifest.fingerprint,
        study.records.manifest.source,
        "8 x 8 pixels, grey",
        "1f3a9c0d2b7e",
        "keras 3.15.1, kfp 2.17.0, numpy 2.4.6, tensorflow 2.21.0",
        "AMD EPYC 7B13, 2 cores usable",
    ):
        assert fact in page.text
    _, *trials = page.table("replicas")
    assert len(trials) == 12
    for row, trial in zip(trials, study.trials.trials, strict=True):
        training = trial.training
        assert row[0:2] == [training.arm, str(training.seed)]
        assert row[2] == f"2026-11-23 10:0{training.seed}:00 UTC"
        assert row[4:] == ["float32", "1", "1", "77,706", training.model_sha256]


def test_yaml_on_the_page_is_the_experiment(page, study) -> None:
    (text,) = (text for tag, text in page.texts if tag == "pre")
    assert parse_experiment(text, "page") == study.experiment


def test_trials_of_two_machines_are_listed_apart(make_study) -> None:
    first, *rest = make_study(seeds=2, epochs=1, classes=("cat", "dog")).trials.trials
    elsewhere = first.training.environment.model_copy(update={"processor": "another one"})
    moved = first.model_copy(
        update={"training": first.training.model_copy(update={"environment": elsewhere})}
    )
    assert environments([first, *rest]) == [("all trials", first.training.environment)]
    assert environments([moved, *rest]) == [
        ("sgd-l2 seed 0", elsewhere),
        ("sgd-l2 seed 1, adamw seed 0, adamw seed 1", first.training.environment),
    ]
