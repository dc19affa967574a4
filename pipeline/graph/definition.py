"""The graph: one definition, compiled for a cluster and executed on a laptop alike.

prepare -> for each arm: ParallelFor(seeds): train -> evaluate -> compare -> report

On a cluster an arm begins when the one before it is done, so that a limit of trials holds for the whole run.
"""

import re
import tempfile
import warnings
from pathlib import Path
from typing import Any, NamedTuple

from kfp import dsl

from optduel.components.compare.component import collect_arm, compare
from optduel.components.core import ExperimentError
from optduel.components.evaluate.component import evaluate
from optduel.components.prepare.component import prepare
from optduel.components.report.component import report
from optduel.components.settings import Arm, Deployment, Experiment, canonical_json, refuse_misplaced
from optduel.components.storage import join, publish
from optduel.components.train.component import train, train_on_cluster
from optduel.pipeline.graph.placement import LOCAL_IMAGE, Placement, pipeline_config


class RunOutputs(NamedTuple):
    """What a run hands back: the report, the records' card, and all that the report is made from."""

    page: dsl.HTML
    card: dsl.HTML
    plots: dsl.Artifact
    records: dsl.Dataset
    collected: dsl.Dataset
    comparison: dsl.Dataset


def pipeline_name(experiment: Experiment) -> str:
    """The pipeline's name: one pipeline for each experiment name, one version for each fingerprint."""
    return f"optduel-{experiment.name}"


def _job(deployment: Deployment) -> dict[str, Any]:
    """What the launcher is told of the deployment; the rest reaches it as the task's own settings."""
    job = deployment.job.model_dump(mode="json") if deployment.job else {}
    return {**job, "image": deployment.image, "kept_seconds": deployment.kept_seconds}


def _constant(json_text: str) -> str:
    r"""JSON that reaches the task as it is, whatever text it holds.

    On the way Kubeflow Pipelines and Argo replace what stands in double braces, Kubeflow Pipelines the place
    of its workspace, and Kubernetes $(NAME); of two dollars it makes one. JSON can spell these otherwise, and
    has them in texts only.

    Example:
        >>> print(_constant('{"title":"{{$}} costs $$"}'))
        {"title":"{\u007b\u0024}} costs \u0024\u0024"}
    """
    spelled = json_text.replace("{{", "{\\u007b").replace("$", "\\u0024")
    return spelled.replace("/kfp-workspace", "\\u002fkfp-workspace")


def build(
    experiment: Experiment,
    deployment: Deployment | None,
    run: str = dsl.PIPELINE_JOB_ID_PLACEHOLDER,
    local_image: str = LOCAL_IMAGE,
) -> Any:
    """The pipeline of an experiment.

    Arms and seeds are known when it is built, and every task gets its own section only, so that a new
    learning rate leaves the prepared records valid.

    Args:
        experiment: what to run; it is written into the pipeline, which therefore has one fingerprint.
        deployment: where on a cluster; None on this machine.
        run: the run's name, unique below the root; KFP's identifier of the run unless given.
        local_image: the image of a run in containers of this machine.

    Returns:
        A KFP pipeline (a GraphComponent) with the parameter `root`: the place for records, runs and index,
        by default the deployment's, on this machine the current folder.
    """
    placement = Placement(deployment, local_image)

    def training_task(arm: Arm, seed: Any, root: Any, records: Any) -> Any:
        inputs = {
            "network": _constant(experiment.model.canonical_json()),
            "arm": _constant(arm.canonical_json()),
            "training": _constant(experiment.training.canonical_json()),
            "compute": _constant(experiment.compute.canonical_json()),
            "seed": seed,
            "root": root,
            "records": records,
        }
        if deployment is None or deployment.job is None:
            return train(**inputs)
        return train_on_cluster(
            **inputs,
            job=_constant(canonical_json(_job(deployment))),
            run=dsl.PIPELINE_JOB_ID_PLACEHOLDER,
            # On a cluster the identifier of the DAG around the task, the iteration, which trains once.
            task=dsl.PIPELINE_TASK_ID_PLACEHOLDER,
        )

    @dsl.pipeline(
        name=pipeline_name(experiment),
        description=re.sub(r"\{(?=\{)", "{ ", experiment.title),  # nor may Argo find a template here
        # Below the root, so that one permission and one network path serve records, models and artifacts.
        pipeline_root=join(deployment.root, "pipelines") if deployment else None,
        pipeline_config=pipeline_config(deployment),
    )
    def optduel(root: str = deployment.root if deployment else ".") -> RunOutputs:
        # Only records are worth caching: a stale model would be worse than a second training. Of them only
        # those whose name stands for the content: KFP's cache does not look behind a path.
        preparation_task = prepare(data=_constant(experiment.data.canonical_json()), root=root)
        cached = experiment.data.source.is_downloaded and (deployment is None or deployment.cached)
        prepared = placement.place(preparation_task, "prepare", "prepare", cached)
        at_once = deployment.trials_at_once if deployment else 0
        seeds = list(experiment.study.seeds)
        collected: Any = None
        for arm in experiment.arms:
            with dsl.ParallelFor(seeds, name=f"{arm.name}-seeds", parallelism=at_once) as seed:
                trained = placement.place_training(
                    training_task(arm, seed, root, prepared.outputs["records"]), f"train {arm.name}"
                )
                if at_once and collected is not None:
                    trained.after(collected)  # the limit of a loop holds for one arm only
                evaluation_task = evaluate(
                    confidence=experiment.study.confidence,
                    records=prepared.outputs["records"],
                    model=trained.outputs["model"],
                    history=trained.outputs["history"],
                )
                evaluated = placement.place(evaluation_task, f"evaluate {arm.name}", "evaluate")
            trials = dsl.Collected(evaluated.outputs["trial"])
            # A fold over the arms: one component signature serves any number of them.
            before = {} if collected is None else {"previous": collected.outputs["collected"]}
            collection_task = collect_arm(trials=trials, **before)
            collected = placement.place(collection_task, f"collect {arm.name}", "report")
        comparison_task = compare(
            study=_constant(experiment.study.canonical_json()),
            arms=_constant(canonical_json([arm.name for arm in experiment.arms])),
            collected=collected.outputs["collected"],
        )
        compared = placement.place(comparison_task, "compare", "report")
        report_task = report(
            experiment=_constant(experiment.canonical_json()),
            root=root,
            run=run,
            records=prepared.outputs["records"],
            collected=collected.outputs["collected"],
            comparison=compared.outputs["comparison"],
        )
        reported = placement.place(report_task, "report", "report")
        return RunOutputs(
            page=reported.outputs["page"],
            card=prepared.outputs["card"],
            plots=reported.outputs["plots"],
            records=prepared.outputs["records"],
            collected=collected.outputs["collected"],
            comparison=compared.outputs["comparison"],
        )

    return optduel


def compiled(experiment: Experiment, deployment: Deployment) -> bytes:
    """An experiment's pipeline as YAML; the same experiment and deployment give the same bytes.

    Raises:
        ExperimentError: the deployment can never run the experiment.
    """
    from kfp.compiler import Compiler

    refuse_misplaced(experiment, deployment)
    with tempfile.TemporaryDirectory(prefix="optduel-") as scratch, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about defaults of the SDK that this pipeline does not use
        path = Path(scratch) / "pipeline.yaml"
        Compiler().compile(build(experiment, deployment), str(path))
        return path.read_bytes()


def compile_pipeline(experiment: Experiment, deployment: Deployment, path: Path) -> None:
    """Compiles an experiment's pipeline into a file.

    Args:
        experiment: what to run.
        deployment: where.
        path: where the YAML goes, .yaml or .yml.

    Raises:
        ExperimentError: the path cannot be used.
        StorageError: the file cannot be written.
    """
    if path.suffix not in {".yaml", ".yml"}:
        raise ExperimentError(f"--output = {path}: must end in .yaml")
    publish(path, compiled(experiment, deployment))
