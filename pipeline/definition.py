"""The graph: one definition, compiled for a cluster and executed on a laptop alike.

prepare -> for each arm: ParallelFor(seeds): train -> evaluate -> compare -> report
"""

from typing import Any, NamedTuple

from kfp import dsl

from components.compare.component import collect_arm, compare
from components.core.experiment import Experiment, canonical_json
from components.evaluate.component import evaluate
from components.prepare.component import prepare
from components.report.component import report
from components.train.component import train


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


def build(experiment: Experiment, image: str, run: str = dsl.PIPELINE_JOB_ID_PLACEHOLDER) -> Any:
    """The pipeline of an experiment.

    Arms and seeds are known when it is built, and every task gets its own section only, so that a new
    learning rate leaves the prepared records valid.

    Args:
        experiment: what to run; it is written into the pipeline, which therefore has one fingerprint.
        image: reference of the image that every task runs in.
        run: the run's name, unique below the root; KFP's identifier of the run unless given.

    Returns:
        A KFP pipeline (a GraphComponent) with the parameter `root`: the place for records, runs and index.
    """

    def place(task: Any, name: str, cached: bool = False) -> Any:
        return task.set_container_image(image).set_display_name(name).set_caching_options(cached)

    @dsl.pipeline(name=pipeline_name(experiment), description=experiment.title)
    def optduel(root: str) -> RunOutputs:
        # Only records are worth caching: a stale model would be worse than a second training.
        prepared = place(prepare(data=experiment.data.canonical_json(), root=root), "prepare", cached=True)
        before: dict[str, Any] = {}
        for arm in experiment.arms:
            with dsl.ParallelFor(list(experiment.study.seeds), name=f"{arm.name}-seeds") as seed:
                training_task = train(
                    network=experiment.model.canonical_json(),
                    arm=arm.canonical_json(),
                    training=experiment.training.canonical_json(),
                    compute=experiment.compute.canonical_json(),
                    seed=seed,
                    records=prepared.outputs["records"],
                )
                trained = place(training_task, f"train {arm.name}")
                evaluation_task = evaluate(
                    confidence=experiment.study.confidence,
                    records=prepared.outputs["records"],
                    model=trained.outputs["model"],
                    history=trained.outputs["history"],
                )
                evaluated = place(evaluation_task, f"evaluate {arm.name}")
            trials = dsl.Collected(evaluated.outputs["trial"])
            # A fold over the arms: one component signature serves any number of them.
            collected = place(collect_arm(trials=trials, **before), f"collect {arm.name}")
            before = {"previous": collected.outputs["collected"]}
        comparison_task = compare(
            study=experiment.study.canonical_json(),
            arms=canonical_json([arm.name for arm in experiment.arms]),
            collected=collected.outputs["collected"],
        )
        compared = place(comparison_task, "compare")
        report_task = report(
            experiment=experiment.canonical_json(),
            root=root,
            run=run,
            records=prepared.outputs["records"],
            collected=collected.outputs["collected"],
            comparison=compared.outputs["comparison"],
        )
        reported = place(report_task, "report")
        return RunOutputs(
            page=reported.outputs["page"],
            card=prepared.outputs["card"],
            plots=reported.outputs["plots"],
            records=prepared.outputs["records"],
            collected=collected.outputs["collected"],
            comparison=compared.outputs["comparison"],
        )

    return optduel
