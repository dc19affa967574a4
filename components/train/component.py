"""The KFP face of the train stage."""

from kfp import dsl


@dsl.component(base_image="optduel", install_kfp_package=False)
def train(
    network: str,
    arm: str,
    training: str,
    compute: str,
    seed: int,
    root: str,
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
        root: Folder of data sets, trials and runs, a path or a URI: a trial that it has is not trained again.
        records: The data set's manifest and place.
        model: Folder with model.keras, training.json and history.jsonl, and checkpoints until it is complete.
        history: What was measured while training, a JSON object a line.
        metrics: The last epoch in numbers.
    """
    from pathlib import Path

    from optduel.components.core import exit_on_error
    from optduel.components.train.stage import model_folder, train_trial

    with exit_on_error("train"):
        sections = {"model": network, "arm": arm, "training": training, "compute": compute}
        model.uri = model_folder(model.uri, arm, seed)
        inputs, rows, numbers = (Path(artifact.path) for artifact in (records, history, metrics))
        result = train_trial(sections, seed, inputs, model.uri, rows, numbers, root=root)
    metrics.metadata.update(result)
    model.metadata.update(framework="tensorflow", sha256=result["model_sha256"])


@dsl.component(
    base_image="optduel",
    install_kfp_package=False,
    task_config_passthroughs=[
        dsl.TaskConfigField.RESOURCES,
        dsl.TaskConfigField.KUBERNETES_TOLERATIONS,
        dsl.TaskConfigField.KUBERNETES_NODE_SELECTOR,
        dsl.TaskConfigField.KUBERNETES_AFFINITY,
        dsl.TaskConfigField.KUBERNETES_VOLUMES,
        # The task itself opens the same places as the workers, with the same credentials.
        dsl.TaskConfigPassthrough(field=dsl.TaskConfigField.ENV, apply_to_task=True),
    ],
)
def train_on_cluster(
    network: str,
    arm: str,
    training: str,
    compute: str,
    seed: int,
    root: str,
    records: dsl.Input[dsl.Dataset],
    job: str,
    run: str,
    task: str,
    model: dsl.Output[dsl.Model],
    history: dsl.Output[dsl.Dataset],
    metrics: dsl.Output[dsl.Metrics],
    task_config: dsl.TaskConfig,
) -> None:
    """Trains one arm with one seed on workers that are pods of their own.

    Args:
        network: The experiment's model section, as JSON.
        arm: The arm, as JSON.
        training: The experiment's training section, as JSON.
        compute: The experiment's compute section, as JSON.
        seed: Of initial weights, data order and dropout.
        root: Folder of data sets, trials and runs, a path or a URI: a trial that it has is not trained again.
        records: The data set's manifest and place.
        job: The deployment's job section with the image, as JSON.
        run: Identifier of the run.
        task: Identifier of the task, the same in every attempt.
        model: Folder with model.keras, training.json and history.jsonl, and checkpoints until it is complete.
        history: What was measured while training, a JSON object a line.
        metrics: The last epoch in numbers.
        task_config: Resources, nodes, volumes and environment of each worker.
    """
    from pathlib import Path

    from optduel.components.core import exit_on_error
    from optduel.components.train.cluster.cluster_launcher import ClusterLauncher
    from optduel.components.train.stage import train_trial

    with exit_on_error("train"):
        sections = {"model": network, "arm": arm, "training": training, "compute": compute}
        inputs, rows, numbers = (Path(artifact.path) for artifact in (records, history, metrics))
        result = train_trial(
            sections,
            seed,
            inputs,
            model.uri,
            rows,
            numbers,
            ClusterLauncher(job, run, task, vars(task_config)),
            root,
        )
    metrics.metadata.update(result)
    model.metadata.update(framework="tensorflow", sha256=result["model_sha256"])
