"""The KFP face of the evaluate stage."""

from kfp import dsl


@dsl.component(base_image="optduel", install_kfp_package=False)
def evaluate(
    confidence: float,
    records: dsl.Input[dsl.Dataset],
    model: dsl.Input[dsl.Model],
    history: dsl.Input[dsl.Dataset],
    trial: dsl.Output[dsl.Dataset],
    metrics: dsl.Output[dsl.Metrics],
    classification: dsl.Output[dsl.ClassificationMetrics],
) -> None:
    """Evaluates a trained model on the split it never learned from.

    Args:
        confidence: Level of the intervals, such as 0.95.
        records: The data set's manifest and place.
        model: The trained model.
        history: What was measured while it trained.
        trial: The evaluation together with history and lineage, as JSON.
        metrics: Accuracy, cross-entropy and their kin.
        classification: Confusion matrix, rows being true classes, and the ROC curve over all classes.
    """
    from pathlib import Path

    from optduel.components.core import exit_on_error
    from optduel.components.evaluate.display import show_classification, show_metrics
    from optduel.components.evaluate.evaluate import evaluate_trial
    from optduel.components.storage import publish

    with exit_on_error("evaluate"):
        result = evaluate_trial(Path(records.path), model.uri, Path(history.path), confidence)
        publish(Path(trial.path), result.canonical_json().encode())
        show_metrics(result.evaluation, metrics)
        show_classification(result.evaluation, classification)
