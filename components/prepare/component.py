"""The KFP face of the prepare stage."""

from kfp import dsl


@dsl.component(base_image="optduel", install_kfp_package=False)
def prepare(
    data: str,
    seeds: str,
    root: str,
    run: str,
    records: dsl.Output[dsl.Dataset],
    card: dsl.Output[dsl.HTML],
    metrics: dsl.Output[dsl.Metrics],
) -> None:
    """Turns images into records: TFRecord shards with a manifest, checked, split and ready to train on.

    Args:
        data: The experiment's data section, as canonical JSON.
        seeds: Those that draw a split of their own, as a JSON list; empty if all share one.
        root: Folder for data sets, a path or a URI; equal data is prepared there once.
        run: The run's name; empty where its outputs may be taken over by other runs.
        records: The data set's manifest and place, as JSON.
        card: Counts per class and split, samples of each class, duplicates and omissions.
        metrics: Images, classes, bytes and omissions.
    """
    from pathlib import Path

    from optduel.components.core import exit_on_error
    from optduel.components.prepare.prepare import prepare_documents
    from optduel.components.results import metered

    with exit_on_error("prepare"), metered("prepare", root, run):
        paths = [Path(artifact.path) for artifact in (records, card, metrics)]
        metrics.metadata.update(prepare_documents(data, seeds, root, *paths))
