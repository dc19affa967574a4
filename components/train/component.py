"""The KFP face of the train stage."""

from kfp import dsl


@dsl.component(base_image="optduel", install_kfp_package=False)
def train(
    network: str,
    arm: str,
    training: str,
    compute: str,
    seed: int,
    records: dsl.Input[dsl.Dataset],
    model: dsl.Output[dsl.Model],
    history: dsl.Output[dsl.Dataset],
    metrics: dsl.Output[dsl.Metrics],
) -> None:
    """Trains one arm with one seed, on one or more workers.

    Args:
        network: The experiment's model section, as JSON.
        arm: The arm, as JSON.
        training: The experiment's training section, as JSON.
        compute: The experiment's compute section, as JSON.
        seed: Of initial weights, data order and dropout.
        records: The data set's manifest and place.
        model: Folder with model.keras, training.json, history.jsonl and checkpoints.
        history: What was measured while training, a JSON object a line.
        metrics: The last epoch in numbers.
    """
    from pathlib import Path

    from components.core.errors import exit_on_error
    from components.train.trial import train_trial

    with exit_on_error("train"):
        sections = {"model": network, "arm": arm, "training": training, "compute": compute}
        paths = [Path(artifact.path) for artifact in (records, model, history, metrics)]
        result = train_trial(sections, seed, *paths)
    metrics.metadata.update(result)
    model.metadata.update(framework="tensorflow", sha256=result["model_sha256"])
