"""The KFP face of the tune stage."""

from kfp import dsl


@dsl.component(base_image="optduel", install_kfp_package=False)
def tune(
    sections: str,
    tuning: str,
    part: str,
    root: str,
    run: str,
    records: dsl.Input[dsl.Dataset],
    metrics: dsl.Output[dsl.Metrics],
) -> None:
    """Trains settings of one arm, one after the other, and measures them on the validation split.

    Args:
        sections: The experiment's model, arm, training and compute, as one JSON object.
        tuning: The experiment's tuning section, as JSON.
        part: Which of the tuning's parts, from 0.
        root: Folder of data sets, trials and runs, a path or a URI: a setting that it has is not trained
            again.
        run: The run's name, unique below root.
        records: The data set's manifest and place.
        metrics: How many settings, how many of them diverged, and the best score.
    """
    from pathlib import Path

    from optduel.components.core import exit_on_error
    from optduel.components.results import metered, tuning_task
    from optduel.components.tune.tune import searched_arm, tune_settings

    with exit_on_error("tune"), metered(tuning_task(searched_arm(sections)), root, run):
        files = Path(records.path), Path(metrics.path)
        metrics.metadata.update(tune_settings(sections, tuning, part, root, run, *files))


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
def tune_on_cluster(
    sections: str,
    tuning: str,
    part: str,
    root: str,
    run: str,
    records: dsl.Input[dsl.Dataset],
    job: str,
    metrics: dsl.Output[dsl.Metrics],
    task_config: dsl.TaskConfig,
) -> None:
    """Trains settings of one arm, one after the other, on workers that are pods of their own.

    Args:
        sections: The experiment's model, arm, training and compute, as one JSON object.
        tuning: The experiment's tuning section, as JSON.
        part: Which of the tuning's parts, from 0.
        root: Folder of data sets, trials and runs, a path or a URI: a setting that it has is not trained
            again.
        run: The run's name, unique below root.
        records: The data set's manifest and place.
        job: The deployment's job section with the image, as JSON.
        metrics: How many settings, how many of them diverged, and the best score.
        task_config: Resources, nodes, volumes and environment of each worker.
    """
    from pathlib import Path

    from optduel.components.core import exit_on_error
    from optduel.components.results import metered, tuning_task
    from optduel.components.train.cluster.cluster_launcher import ClusterLauncher
    from optduel.components.tune.tune import searched_arm, tune_settings

    with exit_on_error("tune"), metered(tuning_task(searched_arm(sections)), root, run):
        files = Path(records.path), Path(metrics.path)
        # A part's folder names its job: the same in every attempt of the task.
        settings = vars(task_config)
        numbers = tune_settings(
            sections, tuning, part, root, run, *files, lambda home: ClusterLauncher(job, run, home, settings)
        )
        metrics.metadata.update(numbers)
