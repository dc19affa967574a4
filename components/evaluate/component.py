"""The KFP face of the evaluate stage."""

from kfp import dsl


@dsl.component(base_image="optduel", install_kfp_package=False)
def evaluate(
    confidence: float,
    seeds: str,
    root: str,
    run: str,
    records: dsl.Input[dsl.Dataset],
    model: dsl.Input[dsl.Model],
    metrics: dsl.Output[dsl.Metrics],
    classification: dsl.Output[dsl.ClassificationMetrics],
) -> None:
    """Evaluates the trained models of one arm on the split that they never learned from.

    Args:
        confidence: Level of the intervals, such as 0.95.
        seeds: Of the trials, a JSON list.
        root: Folder of data sets, runs and their index, a path or a URI; receives each trial's evaluation.
        run: The run's name, unique below root.
        records: The data set's manifest and place.
        model: The trained models, seed-<seed>/ each.
        metrics: Accuracy, cross-entropy and their kin, of several trials each number's median; how many
            diverged.
        classification: Confusion matrix, rows being true classes, and a ROC curve, of the median trial.
    """
    from pathlib import Path

    from optduel.components.core import exit_on_error
    from optduel.components.evaluate.display import show_classification, show_metrics
    from optduel.components.evaluate.evaluate import evaluate_trials
    from optduel.components.results import metered

    with exit_on_error("evaluate"), metered("evaluate", root, run):
        files = Path(records.path), model.uri
        evaluations, diverged = evaluate_trials(*files, seeds, confidence, root, run)
        show_metrics(evaluations, diverged, metrics)
        show_classification(evaluations, classification)


@dsl.component(base_image="optduel", install_kfp_package=False)
def evaluate_champion(
    champion: str,
    root: str,
    run: str,
    records: dsl.Input[dsl.Dataset],
    metrics: dsl.Output[dsl.Metrics],
) -> None:
    """Evaluates the champion on today's test images, but for those that it was trained on.

    Args:
        champion: Its name.
        root: Folder of data sets, runs and champions, a path or a URI.
        run: The run's name, unique below root.
        records: The data set's manifest and place.
        metrics: How many images are left.
    """
    from pathlib import Path

    from optduel.components.core import exit_on_error
    from optduel.components.evaluate.display import show_measured
    from optduel.components.evaluate.incumbent import measure_champion
    from optduel.components.results import metered

    with exit_on_error("evaluate"), metered("evaluate champion", root, run):
        show_measured(measure_champion(Path(records.path), champion, root, run), metrics)
