import math
import random

import numpy as np
import pytest
import scipy.stats
import sklearn.metrics
from hypothesis import given, settings
from hypothesis import strategies as st

from optduel.components.core import DataError
from optduel.components.evaluate.metrics import ROC_POINTS, Scores, evaluate_probabilities, wilson_interval
from optduel.components.results import Evaluation

THREE_ROWS = np.array([[0.7, 0.3], [0.4, 0.6], [0.8, 0.2]])
"""Class 0 is predicted for rows 0 and 2, class 1 for row 1."""


def softmax(logits: np.ndarray) -> np.ndarray:
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    return exponentials / exponentials.sum(axis=1, keepdims=True)


def random_case(
    seed: int, examples: int, classes: int, spread: float = 2.0
) -> tuple[np.ndarray, np.ndarray, list[str]]:
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, classes, examples)
    logits = generator.normal(0, spread, (examples, classes))
    logits[np.arange(examples), labels] += 1
    return softmax(logits), labels, [f"class {index}" for index in range(classes)]


def all_floats(value: object) -> list[float]:
    if isinstance(value, dict):
        return [number for part in value.values() for number in all_floats(part)]
    if isinstance(value, list | tuple):
        return [number for part in value for number in all_floats(part)]
    return [float(value)] if isinstance(value, int | float) else []


def test_three_rows_worked_by_hand() -> None:
    scores = evaluate_probabilities(THREE_ROWS, np.array([0, 1, 1]), ["a", "b"], 0.95)

    assert scores.examples == 3
    assert scores.confusion == ((1, 0), (1, 1))  # row 2 is a "b" that was called "a"
    assert scores.accuracy.value == pytest.approx(2 / 3)
    assert scores.cross_entropy.value == pytest.approx(-(math.log(0.7) + math.log(0.6) + math.log(0.2)) / 3)
    first, second = scores.classes
    assert (first.precision, first.recall.value, first.f1) == pytest.approx((1 / 2, 1, 2 / 3))
    assert (second.precision, second.recall.value, second.f1) == pytest.approx((1, 1 / 2, 2 / 3))
    assert scores.macro_f1 == pytest.approx(2 / 3)
    # Of the two pairs (b, a), scored by p(b), (0.6, 0.3) is ordered rightly and (0.2, 0.3) wrongly.
    assert first.area_under_roc == second.area_under_roc == pytest.approx(1 / 2)
    assert second.roc == ((0, 0, 1), (0, 0.5, 0.6), (1, 0.5, 0.3), (1, 1, 0.2))
    # Bins (0.5, 0.6], (0.6, 0.7] and (0.7, 0.8] hold a row each: right, right, wrong.
    filled = [(entry.confidence, entry.accuracy) for entry in scores.calibration if entry.examples]
    assert filled == [(0.6, 1), (0.7, 1), (0.8, 0)]
    assert scores.expected_calibration_error == pytest.approx((0.4 + 0.3 + 0.8) / 3)


def test_intervals_equal_their_textbook_formulas() -> None:
    probabilities, labels, names = random_case(seed=1, examples=83, classes=4)
    scores = evaluate_probabilities(probabilities, labels, names, 0.9)

    z, n = scipy.stats.norm.ppf(0.95), 83
    p = np.mean(probabilities.argmax(axis=1) == labels)
    middle = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    assert (scores.accuracy.low, scores.accuracy.high) == pytest.approx((middle - half, middle + half))

    losses = [-math.log(row[label]) for row, label in zip(probabilities, labels, strict=True)]
    error = math.sqrt(sum((loss - sum(losses) / n) ** 2 for loss in losses) / (n - 1) / n)
    mean = sum(losses) / n
    assert (scores.cross_entropy.low, scores.cross_entropy.high) == pytest.approx(
        (mean - z * error, mean + z * error)
    )


@pytest.mark.parametrize(("examples", "classes"), [(40, 2), (300, 5), (1200, 12)])
def test_equals_scikit_learn(examples: int, classes: int) -> None:
    probabilities, labels, names = random_case(examples, examples, classes)
    scores = evaluate_probabilities(probabilities, labels, names, 0.95)
    predictions = probabilities.argmax(axis=1)

    precision, recall, f1, support = sklearn.metrics.precision_recall_fscore_support(
        labels, predictions, labels=range(classes), zero_division=0
    )
    assert [entry.precision for entry in scores.classes] == pytest.approx(list(precision))
    assert [entry.recall.value for entry in scores.classes] == pytest.approx(list(recall))
    assert [entry.f1 for entry in scores.classes] == pytest.approx(list(f1))
    assert [entry.examples for entry in scores.classes] == list(support)
    assert scores.macro_f1 == pytest.approx(sklearn.metrics.f1_score(labels, predictions, average="macro"))
    assert scores.accuracy.value == sklearn.metrics.accuracy_score(labels, predictions)
    assert scores.cross_entropy.value == pytest.approx(sklearn.metrics.log_loss(labels, probabilities))
    areas = [sklearn.metrics.roc_auc_score(labels == c, probabilities[:, c]) for c in range(classes)]
    assert [entry.area_under_roc for entry in scores.classes] == pytest.approx(areas)
    assert scores.macro_area_under_roc == pytest.approx(np.mean(areas))
    expected = sklearn.metrics.confusion_matrix(labels, predictions, labels=range(classes))
    assert np.array_equal(scores.confusion, expected)


def test_equals_a_slow_obvious_version() -> None:
    probabilities, labels, names = random_case(seed=7, examples=120, classes=3)
    # Ties between classes and between examples are where shortcuts go wrong.
    probabilities = np.round(probabilities, 1) + 0.1
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    scores = evaluate_probabilities(probabilities, labels, names, 0.95)

    for index, entry in enumerate(scores.classes):
        inside = [row[index] for row, label in zip(probabilities, labels, strict=True) if label == index]
        outside = [row[index] for row, label in zip(probabilities, labels, strict=True) if label != index]
        won = sum((a > b) + (a == b) / 2 for a in inside for b in outside)
        assert entry.area_under_roc == pytest.approx(won / len(inside) / len(outside))
        for false_rate, true_rate, threshold in entry.roc[1:]:
            assert false_rate == pytest.approx(np.mean([score >= threshold for score in outside]))
            assert true_rate == pytest.approx(np.mean([score >= threshold for score in inside]))

    error = 0.0
    for entry in scores.calibration:
        rows = [r for r in range(120) if entry.low < max(probabilities[r]) <= entry.high]
        assert entry.examples == len(rows)
        if rows:
            right = [list(probabilities[r]).index(max(probabilities[r])) == labels[r] for r in rows]
            confidence = [max(probabilities[r]) for r in rows]
            error += abs(sum(right) - sum(confidence)) / 120
            assert entry.accuracy == pytest.approx(np.mean(right))
    assert scores.expected_calibration_error == pytest.approx(error)


def test_area_belongs_to_the_full_curve_and_not_to_the_thinned_one() -> None:
    probabilities, labels, names = random_case(seed=3, examples=5000, classes=2)
    entry = evaluate_probabilities(probabilities, labels, names, 0.95).classes[1]

    exact = sklearn.metrics.roc_auc_score(labels, probabilities[:, 1])
    thinned = np.array(entry.roc)
    assert len(thinned) <= ROC_POINTS < len(sklearn.metrics.roc_curve(labels, probabilities[:, 1])[0])
    assert entry.area_under_roc == pytest.approx(exact, abs=1e-12)
    thinned_area = np.trapezoid(thinned[:, 1], thinned[:, 0])
    assert thinned_area == pytest.approx(exact, abs=2e-3)
    assert thinned_area != pytest.approx(exact, abs=1e-12)


def test_class_without_examples_and_class_without_predictions_are_defined() -> None:
    probabilities = np.array([[0.8, 0.1, 0.1], [0.7, 0.2, 0.1], [0.1, 0.0, 0.9]])
    scores = evaluate_probabilities(probabilities, np.array([0, 1, 0]), ["a", "unpredicted", "absent"], 0.95)

    _, unpredicted, absent = scores.classes
    assert (unpredicted.precision, unpredicted.recall.value, unpredicted.f1) == (0, 0, 0)
    assert unpredicted.recall.low == 0
    assert 0 < unpredicted.recall.high < 1
    assert (absent.precision, absent.f1) == (0, 0)
    assert (absent.recall.low, absent.recall.value, absent.recall.high) == (0, 0, 1)
    assert absent.area_under_roc is None
    assert absent.roc == ()
    assert scores.macro_f1 == pytest.approx((0.5 + 0) / 2)  # the absent class is left out


def test_split_of_one_class_has_no_area() -> None:
    scores = evaluate_probabilities(THREE_ROWS, np.array([0, 0, 0]), ["a", "b"], 0.95)
    assert scores.macro_area_under_roc is None


def test_certain_and_wrong_is_finite() -> None:
    scores = evaluate_probabilities(np.array([[1.0, 0.0]]), np.array([1]), ["a", "b"], 0.95)
    assert scores.cross_entropy.value == pytest.approx(708.4, abs=0.1)
    assert scores.cross_entropy.low == scores.cross_entropy.high == scores.cross_entropy.value


def test_an_empty_split_is_named() -> None:
    with pytest.raises(DataError, match="examples = 0"):
        evaluate_probabilities(np.empty((0, 2)), np.empty(0, int), ["a", "b"], 0.95)


def test_wilson_interval_without_trials_says_nothing() -> None:
    empty = wilson_interval(0, 0, 0.95)
    assert (empty.value, empty.low, empty.high) == (0, 0, 1)


def test_becomes_the_evaluation_of_a_trial_and_survives_json() -> None:
    probabilities, labels, names = random_case(seed=5, examples=60, classes=3)
    scores = evaluate_probabilities(probabilities, labels, names, 0.95)
    evaluation = scores.as_evaluation("adamw", 4, "test", "ab" * 32)
    assert (evaluation.arm, evaluation.seed, evaluation.split) == ("adamw", 4, "test")
    assert evaluation.confusion == scores.confusion
    assert Evaluation.model_validate_json(evaluation.canonical_json()) == evaluation


@st.composite
def cases(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, list[str]]:
    classes = draw(st.integers(1, 6))
    examples = draw(st.integers(1, 40))
    spread = draw(st.sampled_from([0.0, 1.0, 30.0, 2000.0]))  # uniform .. certain, with underflow to 0
    return random_case(draw(st.integers(0, 2**32 - 1)), examples, classes, spread)


@settings(deadline=None, max_examples=60)
@given(case=cases(), confidence=st.sampled_from([0.6, 0.95, 0.999]))
def test_all_inputs_give_finite_consistent_numbers(
    case: tuple[np.ndarray, np.ndarray, list[str]], confidence: float
) -> None:
    probabilities, labels, names = case
    scores: Scores = evaluate_probabilities(probabilities, labels, names, confidence)
    evaluation = scores.as_evaluation("arm", 0, "test", "0" * 64)

    assert all(math.isfinite(number) for number in all_floats(evaluation.model_dump()))
    assert np.sum(evaluation.confusion) == len(labels)
    assert np.sum([entry.examples for entry in evaluation.calibration]) == len(labels)
    assert 0 <= evaluation.expected_calibration_error <= 1
    for interval in (evaluation.accuracy, evaluation.cross_entropy, *(c.recall for c in evaluation.classes)):
        assert interval.low - 1e-12 <= interval.value <= interval.high + 1e-12
    for entry in evaluation.classes:
        if entry.area_under_roc is None:
            assert entry.roc == ()
            continue
        curve = np.array(entry.roc)
        assert len(curve) <= ROC_POINTS
        assert list(curve[0]) == [0, 0, 1]
        assert list(curve[-1, :2]) == [1, 1]
        assert (np.diff(curve[:, :2], axis=0) >= 0).all()
        assert (np.diff(curve[:, 2]) <= 0).all()


@settings(deadline=None, max_examples=30)
@given(case=cases(), order=st.randoms(use_true_random=False))
def test_order_of_examples_does_not_matter(
    case: tuple[np.ndarray, np.ndarray, list[str]], order: random.Random
) -> None:
    probabilities, labels, names = case
    places = list(range(len(labels)))
    order.shuffle(places)
    first = evaluate_probabilities(probabilities, labels, names, 0.95)
    second = evaluate_probabilities(probabilities[places], labels[places], names, 0.95)
    assert second.confusion == first.confusion
    assert second.cross_entropy.value == pytest.approx(first.cross_entropy.value)
    assert [entry.roc for entry in second.classes] == [entry.roc for entry in first.classes]
