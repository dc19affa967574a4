"""The KFP face of the train stage."""

from kfp import dsl


@dsl.component(base_image="optduel", install_kfp_package=False)
def train(
    sections: str,
    chosen: str,
    seeds: str,
    root: str,
    run: str,
    records: dsl.Input[dsl.Dataset],
    model: dsl.Output[dsl.Model],
    metrics: dsl.Output[dsl.Metrics],
) -> None:
    """Trains trials of one arm, one after the other, each on one or more workers.

    Args:
        sections: The experiment's model, arm, training and compute, as one JSON object.
        chosen: What tuning has found for every arm, as JSON; empty where nothing was tuned.
        seeds: Of initial weights, data order and dropout: a JSON list, a trial for each.
        root: Folder of data sets, trials and runs, a path or a URI: a trial that it has is not trained again.
        run: The run's name, unique below root.
        records: The data set's manifest and place.
        model: Holds seed-<seed>/ with model.keras, training.json, history.jsonl; checkpoints meanwhile.
        metrics: The last epoch in numbers; of several trials each number's median.
    """
    from pathlib import Path

    from optduel.components.core import exit_on_error
    from optduel.components.results import metered
    from optduel.components.train.stage import models_folder, train_trials

    with exit_on_error("train"), metered("train", root, run):
        model.uri = models_folder(model.uri, sections)
        files = Path(records.path), model.uri, Path(metrics.path)
        metrics.metadata.update(train_trials(sections, chosen, seeds, root, *files))
    model.metadata["framework"] = "tensorflow"


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
    sections: str,
    chosen: str,
    seeds: str,
    root: str,
    records: dsl.Input[dsl.Dataset],
    job: str,
    run: str,
    model: dsl.Output[dsl.Model],
    metrics: dsl.Output[dsl.Metrics],
    task_config: dsl.TaskConfig,
) -> None:
    """Trains trials of one arm, one after the other, on workers that are pods of their own.

    Args:
        sections: The experiment's model, arm, training and compute, as one JSON object.
        chosen: What tuning has found for every arm, as JSON; empty where nothing was tuned.
        seeds: Of initial weights, data order and dropout: a JSON list, a trial for each.
        root: Folder of data sets, trials and runs, a path or a URI: a trial that it has is not trained again.
        records: The data set's manifest and place.
        job: The deployment's job section with the image, as JSON.
        run: Identifier of the run.
        model: Holds seed-<seed>/ with model.keras, training.json, history.jsonl; checkpoints meanwhile.
        metrics: The last epoch in numbers; of several trials each number's median.
        task_config: Resources, nodes, volumes and environment of each worker.
    """
    from pathlib import Path

    from optduel.components.core import exit_on_error
    from optduel.components.results import metered
    from optduel.components.train.cluster.cluster_launcher import ClusterLauncher
    from optduel.components.train.stage import train_trials

    with exit_on_error("train"), metered("train", root, run):
        files = Path(records.path), model.uri, Path(metrics.path)
        # A trial's folder names its job: the same in every attempt of the task, another in every run of it.
        numbers = train_trials(
            sections,
            chosen,
            seeds,
            root,
            *files,
            lambda folder: ClusterLauncher(job, run, folder, vars(task_config)),
        )
        metrics.metadata.update(numbers)
    model.metadata["framework"] = "tensorflow"
