"""The graph: one definition, compiled for a cluster and executed on a laptop alike.

prepare -> for each arm, one after the other: trials (train -> evaluate) -> compare -> report

Where a deployment has alerts, a last task tells what became of these.

Where arms are tuned, `tune` of each arm and then `choose` come first. What was chosen is known at run time
only, and reaches the trials as a parameter of their pipelines. Each task of an arm holds as many trials as
`sizes.batches` says; those of a task are trained by the same workers.
"""

import re
import tempfile
import warnings
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

from kfp import dsl

from optduel.components.choose import component as choosing
from optduel.components.compare import component as comparing
from optduel.components.core import ExperimentError
from optduel.components.evaluate import component as evaluating
from optduel.components.prepare import component as preparing
from optduel.components.report import component as reporting
from optduel.components.settings import Arm, Deployment, Experiment, canonical_json, refuse_misplaced
from optduel.components.storage import publish
from optduel.components.train import component as training
from optduel.components.tune import component as tuning
from optduel.pipeline.graph.last_task import told_at_the_end
from optduel.pipeline.graph.lean import lean
from optduel.pipeline.graph.placement import LOCAL_IMAGE, Placement, pipeline_config
from optduel.pipeline.graph.retraining_graph import RetrainingGraph, RetrainingOutputs
from optduel.pipeline.graph.sizes import LOCAL_TASKS, batches, check_size, seeds_in_words, shared_out

prepare, evaluate = lean(preparing.prepare), lean(evaluating.evaluate)
tune, tune_on_cluster, choose = lean(tuning.tune), lean(tuning.tune_on_cluster), lean(choosing.choose)
train, train_on_cluster = lean(training.train), lean(training.train_on_cluster)
compare, report = lean(comparing.compare), lean(reporting.report)


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


def description(experiment: Experiment) -> str:
    """What a run compares, on which data, with which settings; one line for a person."""
    arms = ", ".join(f"{arm.name} ({arm.optimizer})" for arm in experiment.arms)
    seeds, training = len(experiment.study.seeds), experiment.training
    source = experiment.data.source.model_dump(mode="json")
    data = " ".join(str(source[field]) for field in ("kind", "name", "path") if source.get(field))
    return (
        f"{experiment.title}. Compares {arms} on {data}: {seeds} paired "
        f"seed{'' if seeds == 1 else 's'}, {training.epochs} epochs of batches of "
        f"{training.global_batch_size}, judged by {experiment.study.metric.replace('_', '-')}."
    )


def run_parameters(experiment: Experiment, deployment: Deployment | None) -> dict[str, str]:
    """What Kubeflow Pipelines shows beside a run and compares between runs."""
    return {
        "root": deployment.root if deployment else ".",
        "fingerprint": experiment.fingerprint,
        "image": deployment.image if deployment else "none",
    }


def _job(deployment: Deployment) -> dict[str, Any]:
    """What the launcher is told of the deployment; the rest reaches it as the task's own settings."""
    job = deployment.job.model_dump(mode="json") if deployment.job else {}
    return {**job, "image": deployment.image, "kept_seconds": deployment.kept_seconds}


def _sections(experiment: Experiment, arm: Arm) -> str:
    """What determines the training of an arm, as JSON."""
    parts = {
        "model": experiment.model,
        "arm": arm,
        "training": experiment.training,
        "compute": experiment.compute,
    }
    return canonical_json({name: part.model_dump(mode="json") for name, part in parts.items()})


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
        A KFP pipeline (a GraphComponent) with the parameters `run_parameters`, of which `root` counts: the
        place for records, runs and index. The others are there to be seen beside a run.
    """
    placement = Placement(deployment, local_image, experiment.compute.workers)

    def trials(name: str, seeds: Any, told: str, inputs: Mapping[str, Any]) -> tuple[Any, Any]:
        """Trains and evaluates; returns both tasks."""
        if deployment is None or deployment.job is None:
            training_task = train(
                sections=inputs["sections"],
                chosen=inputs["chosen"],
                seeds=seeds,
                root=inputs["root"],
                run=run,
                records=inputs["records"],
            )
        else:
            training_task = train_on_cluster(
                sections=inputs["sections"],
                chosen=inputs["chosen"],
                seeds=seeds,
                root=inputs["root"],
                records=inputs["records"],
                job=inputs["job"],
                run=run,
            )
        trained = placement.place_training(training_task, f"train {name}{told}")
        evaluation_task = evaluate(
            confidence=experiment.study.confidence,
            seeds=seeds,
            root=inputs["root"],
            run=run,
            records=inputs["records"],
            model=trained.outputs["model"],
        )
        return trained, placement.place(evaluation_task, f"evaluate {name}{told}", "evaluate")

    def trials_of(arm: Arm) -> Any:
        """The arm's trials as a pipeline in the pipeline."""

        @dsl.pipeline(name=arm.name)
        def arm_trials(
            root: str, sections: str, chosen: str, job: str, records: dsl.Input[dsl.Dataset]
        ) -> None:
            inputs = {"root": root, "sections": sections, "chosen": chosen, "job": job, "records": records}
            if deployment is None:
                # Of a loop KFP's local runner runs two iterations at a time, of other tasks one.
                items = [canonical_json(batch) for batch in shared_out(experiment.study.seeds, LOCAL_TASKS)]
                with dsl.ParallelFor(items, name=f"{arm.name}-seeds") as seeds:
                    trials(arm.name, seeds, "", inputs)
                return
            # No loop: its iterations have no names on Kubeflow's pages, and take two more steps each.
            begun: list[Any] = []
            for batch in batches(experiment, deployment):
                begun.append(trials(arm.name, canonical_json(batch), f" {seeds_in_words(batch)}", inputs)[0])
                if len(begun) > deployment.trials_at_once:
                    begun[-1].after(begun[-1 - deployment.trials_at_once])

        return arm_trials

    def tuning_of(arm: Arm) -> Any:
        """The arm's tuning as a pipeline in the pipeline: a loop reads nothing but its pipeline's inputs."""

        @dsl.pipeline(name=f"tune-{arm.name}")
        def arm_tuning(
            root: str, sections: str, section: str, job: str, records: dsl.Input[dsl.Dataset]
        ) -> None:
            given = {"sections": sections, "tuning": section, "root": root, "run": run, "records": records}

            def settings(part: Any) -> None:
                if deployment is None or deployment.job is None:
                    task = tune(part=part, **given)
                else:
                    task = tune_on_cluster(part=part, job=job, **given)
                placement.place_training(task, f"tune {arm.name}")

            parts = experiment.tuning.tasks if experiment.tuning else 0
            if parts == 1:
                settings("0")
                return
            with dsl.ParallelFor([str(part) for part in range(parts)], name=f"{arm.name}-settings") as part:
                settings(part)

        return arm_tuning

    trials_of_arms = [(arm, trials_of(arm)) for arm in experiment.arms]
    tunings = [(arm, tuning_of(arm)) for arm in experiment.arms if experiment.tuning]

    job = _constant(canonical_json(_job(deployment))) if deployment and deployment.job else ""

    whole = _constant(experiment.canonical_json())

    def compare_arms(root: Any, records: Any) -> tuple[Any, Any]:
        """The whole comparison; returns the tasks that compare and report."""
        chosen: Any = ""
        if experiment.tuning:
            section = _constant(experiment.tuning.canonical_json())
            found = [
                arm_tuning(
                    root=root,
                    sections=_constant(_sections(experiment, arm)),
                    section=section,
                    job=job,
                    records=records,
                )
                .set_display_name(f"tune {arm.name}")
                .set_caching_options(False)
                for arm, arm_tuning in tunings
            ]
            choice_task = choose(experiment=whole, root=root, run=run).after(*found)
            chosen = placement.place(choice_task, "choose", "report").outputs["Output"]
        arm_task: Any = None
        for arm, arm_trials in trials_of_arms:
            before = arm_task
            arm_task = arm_trials(
                root=root,
                sections=_constant(_sections(experiment, arm)),
                chosen=chosen,
                job=job,
                records=records,
            )
            arm_task.set_display_name(arm.name).set_caching_options(False)
            if before is not None:
                arm_task.after(before)
        comparison_task = compare(
            experiment=whole,
            root=root,
            run=run,
        ).after(arm_task)
        compared = placement.place(comparison_task, "compare", "report")
        report_task = report(
            experiment=whole,
            root=root,
            run=run,
            records=records,
            collected=compared.outputs["collected"],
            comparison=compared.outputs["comparison"],
        )
        return compared, placement.place(report_task, "report", "report")

    def tasks(root: Any) -> RunOutputs | RetrainingOutputs:
        # Only records are worth caching: a stale model would be worse than a second training. Of them only
        # those whose name stands for the content: KFP's cache does not look behind a path.
        cached = experiment.data.source.is_downloaded and (deployment is None or deployment.cached)
        preparation_task = prepare(
            data=_constant(experiment.data.canonical_json()),
            seeds=canonical_json(experiment.study.seeds if experiment.study.vary_split else []),
            root=root,
            # With the run's name no run would find another one's records.
            run="" if cached else run,
        )
        prepared = placement.place(preparation_task, "prepare", "prepare", cached)
        records = prepared.outputs["records"]
        if experiment.retraining is None:
            compared, reported = compare_arms(root, records)
            return RunOutputs(
                page=reported.outputs["page"],
                card=prepared.outputs["card"],
                plots=reported.outputs["plots"],
                records=records,
                collected=compared.outputs["collected"],
                comparison=compared.outputs["comparison"],
            )

        def train_candidate(sections: Any, seeds: str) -> Any:
            inputs = {"root": root, "sections": sections, "chosen": "", "job": job, "records": records}
            return trials("candidate", seeds, "", inputs)[1]

        decided = RetrainingGraph(
            experiment,
            whole,
            _constant(experiment.retraining.canonical_json()),
            run,
            placement,
            train_candidate,
            lambda: compare_arms(root, records)[1],
        ).tasks(root, records)
        return RetrainingOutputs(prepared.outputs["card"], records, decided.outputs["changes"])

    parameters = run_parameters(experiment, deployment)

    def optduel(
        root: str = parameters["root"],
        fingerprint: str = parameters["fingerprint"],
        image: str = parameters["image"],
    ) -> RunOutputs | RetrainingOutputs | None:
        with told_at_the_end(placement, deployment, experiment.name, root, run):
            outputs = tasks(root)
        return outputs if has_outputs else None

    # Nobody takes outputs on a cluster, and KFP lets none out of the group that the last task watches.
    has_outputs = deployment is None or deployment.alerts is None
    kind = RunOutputs if experiment.retraining is None else RetrainingOutputs
    optduel.__annotations__["return"] = kind if has_outputs else None
    return dsl.pipeline(
        name=pipeline_name(experiment),
        description=re.sub(r"\{(?=\{)", "{ ", description(experiment)),  # nor may Argo find a template here
        pipeline_config=pipeline_config(deployment),
    )(optduel)


def compiled(experiment: Experiment, deployment: Deployment) -> bytes:
    """An experiment's pipeline as YAML; the same experiment and deployment give the same bytes.

    Raises:
        ExperimentError: the deployment can never run the experiment, or the run would be too large.
    """
    from kfp.compiler import Compiler

    refuse_misplaced(experiment, deployment)
    with tempfile.TemporaryDirectory(prefix="optduel-") as scratch, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about defaults of the SDK that this pipeline does not use
        path = Path(scratch) / "pipeline.yaml"
        # At each setting of each task KFP reads the source of every frame of the stack. A new thread has few.
        with ThreadPoolExecutor(1) as thread:
            thread.submit(lambda: Compiler().compile(build(experiment, deployment), str(path))).result()
        package = path.read_bytes()
    check_size(package, experiment, deployment)
    return package


def compile_pipeline(experiment: Experiment, deployment: Deployment, path: Path) -> None:
    """Compiles an experiment's pipeline into a file.

    Args:
        experiment: what to run.
        deployment: where.
        path: where the YAML goes, .yaml or .yml.

    Raises:
        ExperimentError: the path cannot be used, or the run would be too large.
        StorageError: the file cannot be written.
    """
    if path.suffix not in {".yaml", ".yml"}:
        raise ExperimentError(f"--output = {path}: must end in .yaml")
    publish(path, compiled(experiment, deployment))
