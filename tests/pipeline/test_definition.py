"""The compiled graph: its meaning, its images, its bytes."""

import functools
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from google.protobuf import json_format
from kfp import components
from kfp.kubernetes.kubernetes_executor_config_pb2 import KubernetesExecutorConfig
from kfp.pipeline_spec import pipeline_spec_pb2

from optduel.components.core import TERMINATION_LOG_VARIABLE, ExperimentError
from optduel.components.settings import Deployment, decode
from optduel.components.train.cluster.settings import job_settings
from optduel.pipeline.cli.shipped import load_deployment, load_experiment
from optduel.pipeline.graph.definition import compile_pipeline, compiled
from tests.cluster.kfp_argo import Compiled

each_deployment = pytest.mark.parametrize("name", ["pod", "trainjob", "tfjob"])
IMAGE = "registry.example/optduel@sha256:" + "0" * 64
THREE_ARMS = (
    "arms=[{name: a, optimizer: sgd, learning_rate: {schedule: constant, base: 0.1}},"
    "{name: b, optimizer: adamw, learning_rate: {schedule: constant, base: 0.1}},"
    "{name: c, optimizer: adam, learning_rate: {schedule: constant, base: 0.1}}]"
)


def deployment(name: str = "pod", *assignments: str) -> Deployment:
    return load_deployment(name, [f"image={IMAGE}", *assignments])


@functools.cache
def compiled_once(where: str, *assignments: str) -> bytes:
    """Many tests look at the same few pipelines, each of which takes a second; a text is known again."""
    return compiled(load_experiment("digits", assignments), decode(Deployment, where, "deployment"))


def documents(where: Deployment, *assignments: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The pipeline and its settings of Kubernetes."""
    assignments = ("tuning=null", "study.seeds=[0,1]", *assignments)
    pipeline, platform = yaml.load_all(compiled_once(where.canonical_json(), *assignments), yaml.CSafeLoader)
    return pipeline, platform["platforms"]["kubernetes"]


def compiled_pipeline(*assignments: str) -> dict[str, Any]:
    return documents(deployment(), *assignments)[0]


def tasks_of(component: dict[str, Any]) -> dict[str, Any]:
    tasks: dict[str, Any] = component["dag"]["tasks"]
    return tasks


@each_deployment
def test_pipeline_is_valid_against_kfps_own_schema(name: str, tmp_path: Path) -> None:
    pipeline, kubernetes = documents(deployment(name))
    spec = json_format.ParseDict(pipeline, pipeline_spec_pb2.PipelineSpec())
    assert spec.pipeline_info.name == "optduel-digits"
    assert set(spec.root.input_definitions.parameters) == {"root", "fingerprint", "image"}
    platform = json_format.ParseDict(
        {"platforms": {"kubernetes": kubernetes}}, pipeline_spec_pb2.PlatformSpec()
    )
    settings = platform.platforms["kubernetes"].deployment_spec.executors
    assert set(settings) == set(spec.deployment_spec["executors"])
    for executor in settings.values():
        fields = json_format.MessageToDict(executor)
        json_format.ParseDict(fields, KubernetesExecutorConfig())
    path = tmp_path / "pipeline.yaml"
    compile_pipeline(load_experiment("digits", ["study.seeds=[0]"]), deployment(name), path)
    assert components.load_component_from_file(str(path)).name == "optduel-digits"


@each_deployment
def test_compiling_twice_gives_the_same_bytes(name: str) -> None:
    experiment = load_experiment("digits", ["study.seeds=[0]"])
    assert compiled(experiment, deployment(name)) == compiled(experiment, deployment(name))


@each_deployment
def test_every_task_runs_in_the_given_image_and_installs_nothing(name: str) -> None:
    executors = documents(deployment(name))[0]["deploymentSpec"]["executors"]
    assert len(executors) == 11
    for executor in executors.values():
        assert executor["container"]["image"] == IMAGE
        assert "pip install" not in " ".join(executor["container"]["command"])


def trials_of(pipeline: dict[str, Any], arm: str) -> dict[str, dict[str, Any]]:
    """The tasks of an arm by the name that is shown."""
    reference = tasks_of(pipeline["root"])[arm]["componentRef"]["name"]
    return {task["taskInfo"]["name"]: task for task in tasks_of(pipeline["components"][reference]).values()}


def test_graph_trains_and_evaluates_each_arm_over_the_seeds() -> None:
    """Each trial has a task of its own, whose name tells the seed, as long as the run has room for it."""
    pipeline = compiled_pipeline()
    root = tasks_of(pipeline["root"])
    assert set(root) == {"prepare", "sgd-l2", "adamw", "compare", "report"}
    for arm in ("sgd-l2", "adamw"):
        assert "prepare" in root[arm]["dependentTasks"]
        expected = {f"{stage} {arm} seed {seed}" for stage in ("train", "evaluate") for seed in range(2)}
        trials = trials_of(pipeline, arm)
        assert set(trials) == expected
        for name, task in trials.items():
            seeds = task["inputs"]["parameters"]["seeds"]["runtimeValue"]["constant"]
            assert seeds == f"[{name.rpartition(' ')[2]}]"
    assert root["sgd-l2"]["dependentTasks"] == ["prepare"]
    assert set(root["adamw"]["dependentTasks"]) == {"prepare", "sgd-l2"}
    assert root["compare"]["dependentTasks"] == ["adamw"]


def test_arms_are_data() -> None:
    root = tasks_of(compiled_pipeline(THREE_ARMS)["root"])
    assert {"a", "b", "c"} <= set(root)
    assert "a" in root["b"]["dependentTasks"]
    assert "b" in root["c"]["dependentTasks"]


def test_many_trials_share_tasks() -> None:
    """All of an arm's seeds come once, in tasks of about one size."""
    trials = trials_of(compiled_pipeline(THREE_ARMS, f"study.seeds={list(range(100))}"), "b")
    seeds = [
        json.loads(task["inputs"]["parameters"]["seeds"]["runtimeValue"]["constant"])
        for name, task in trials.items()
        if name.startswith("train ")
    ]
    assert sorted(seed for batch in seeds for seed in batch) == list(range(100))
    assert len(seeds) == 6
    assert {len(batch) for batch in seeds} == {16, 17}
    assert "train b seeds 0-15" in trials
    assert "evaluate b seeds 0-15" in trials


@pytest.mark.parametrize("trials", [1, 3])
def test_no_more_trials_than_the_deployment_says_run_at_a_time(trials: int) -> None:
    """A trial that only waits its turn must not be given up, nor two of them hold half of the GPUs each."""
    where = deployment("trainjob") if trials == 1 else deployment("trainjob", f"trials_at_once={trials}")
    pipeline = documents(where, THREE_ARMS, "study.seeds=[0,1,2,3,4]")[0]
    for arm in ("a", "b", "c"):
        reference = tasks_of(pipeline["root"])[arm]["componentRef"]["name"]
        tasks = tasks_of(pipeline["components"][reference])
        shown = {key: task["taskInfo"]["name"] for key, task in tasks.items()}
        for key, task in tasks.items():
            stage, _, _, seed = shown[key].split()
            before = [shown[one] for one in task.get("dependentTasks", ())]
            if stage == "evaluate":
                assert before == [f"train {arm} seed {seed}"]
            else:
                assert before == ([f"train {arm} seed {int(seed) - trials}"] if int(seed) >= trials else [])


def cached_tasks(pipeline: dict[str, Any]) -> set[str]:
    dags = [pipeline["root"], *(part for part in pipeline["components"].values() if "dag" in part)]
    tasks = [task for dag in dags for task in tasks_of(dag).values() if "parameterIterator" not in task]
    return {
        task["taskInfo"]["name"] for task in tasks if task.get("cachingOptions", {}).get("enableCache", False)
    }


@pytest.mark.parametrize(
    ("source", "cached"),
    [
        ("{kind: tfds, name: beans}", {"prepare"}),
        ("{kind: tfds, name: beans, data_dir: gs://b/tfds}", set()),
        ("{kind: folder, path: gs://b/photos}", set()),
        ("{kind: digits}", set()),
    ],
)
def test_only_records_of_a_source_that_cannot_change_under_its_name_are_cached(
    source: str, cached: set[str]
) -> None:
    """KFP's key of the cache holds parameters, image and command, not the content behind a path."""
    assert cached_tasks(compiled_pipeline(f"data.source={source}")) == cached


def test_a_deployment_may_prepare_anew() -> None:
    pipeline, _ = documents(deployment("pod", "cached=false"), "data.source={kind: tfds, name: beans}")
    assert cached_tasks(pipeline) == set()


def parameters_of(document: dict[str, Any], prefix: str) -> list[dict[str, Any]]:
    dags = [document["root"], *(part for part in document["components"].values() if "dag" in part)]
    return [
        task["inputs"]["parameters"]
        for dag in dags
        for name, task in tasks_of(dag).items()
        if name.startswith(prefix)
    ]


def test_task_gets_its_own_section_only() -> None:
    """So that a new learning rate, or more seeds, leaves the prepared records valid."""
    before = compiled_pipeline()
    after = compiled_pipeline(
        "arms.adamw.learning_rate.base=0.5", "training.epochs=99", "study.seeds=[0,1,2]"
    )
    assert parameters_of(before, "prepare") == parameters_of(after, "prepare")
    assert parameters_of(before, "adamw") != parameters_of(after, "adamw")
    recoloured = compiled_pipeline("data.split.seed=1")
    assert parameters_of(before, "prepare") != parameters_of(recoloured, "prepare")


@pytest.mark.parametrize("name", ["coupling", "digits", "flowers", "tutorial"])
def test_every_shipped_experiment_compiles(name: str) -> None:
    pipeline, _ = yaml.load_all(compiled(load_experiment(name), deployment()), yaml.CSafeLoader)
    assert pipeline["pipelineInfo"]["name"] == f"optduel-{name}"


def containers(pipeline: dict[str, Any]) -> dict[str, dict[str, Any]]:
    executors = pipeline["deploymentSpec"]["executors"]
    return {name.removeprefix("exec-"): executor["container"] for name, executor in executors.items()}


def code_tasks(pipeline: dict[str, Any]) -> dict[str, dict[str, Any]]:
    dags = [pipeline["root"], *(part for part in pipeline["components"].values() if "dag" in part)]
    return {
        f"{number} {name}": task
        for number, dag in enumerate(dags)
        for name, task in tasks_of(dag).items()
        if "dag" not in pipeline["components"][task["componentRef"]["name"]]
    }


def test_the_root_is_the_deployments_unless_a_run_gives_another() -> None:
    pipeline, _ = documents(deployment("pod", "root=gs://bucket/optduel"))
    root = pipeline["root"]["inputDefinitions"]["parameters"]["root"]
    assert root["defaultValue"] == "gs://bucket/optduel"


@each_deployment
def test_every_task_is_retried_for_as_long_as_training_takes(name: str) -> None:
    """KFP's own limit of an hour counts from the first attempt, so that long training is never retried."""
    pipeline, _ = documents(deployment(name, "retries={attempts: 4, pause_seconds: 10}"))
    tasks = code_tasks(pipeline)
    assert len(tasks) == 11
    for task in tasks.values():
        assert task["retryPolicy"] == {
            "maxRetryCount": 4,
            "backoffDuration": "10s",
            "backoffFactor": 2.0,
            "backoffMaxDuration": "604800s",
        }
    never, _ = documents(deployment(name, "retries.attempts=0"))
    assert all("retryPolicy" not in task for task in code_tasks(never).values())


@each_deployment
def test_every_task_gets_its_stages_resources(name: str) -> None:
    pipeline, _ = documents(
        deployment(
            name,
            "train={cpu: 6, memory: 24Gi, accelerators: 2}",
            "evaluate={cpu: 2.5, memory: 5Gi}",
            "report={cpu: 500m, memory: 1610612736}",
        )
    )
    found = containers(pipeline)
    train = next(found[name] for name in ("train", "train-on-cluster") if name in found)
    resources = train["resources"]
    assert (resources["resourceCpuRequest"], resources["resourceMemoryRequest"]) == ("6", "24Gi")
    assert resources["resourceMemoryLimit"] == "24Gi"
    assert "resourceCpuLimit" not in resources
    accelerator = resources["accelerator"]
    assert (accelerator["resourceType"], accelerator["resourceCount"]) == ("nvidia.com/gpu", "2")
    assert found["evaluate"]["resources"]["resourceCpuRequest"] == "2.5"
    assert found["evaluate"]["resources"]["resourceMemoryLimit"] == "5Gi"
    assert found["report"]["resources"]["resourceCpuRequest"] == "500m"
    assert found["report"]["resources"]["resourceMemoryLimit"] == "1610612736"
    assert found["prepare"]["resources"]["resourceCpuRequest"] == "2"
    assert "accelerator" not in found["report"]["resources"]


@each_deployment
def test_every_task_finds_environment_and_secrets(name: str) -> None:
    pipeline, kubernetes = documents(deployment(name, "environment={AWS_REGION: eu-1, A: b}"))
    variables = {"A": "b", "AWS_REGION": "eu-1"}
    for container in containers(pipeline).values():
        found = {one["name"]: one["value"] for one in container["env"]}
        assert variables.items() <= found.items()
    for settings in kubernetes["deploymentSpec"]["executors"].values():
        (secret,) = settings["secretAsEnv"]
        assert secret["secretName"] == "mlpipeline-minio-artifact"
        assert secret["keyToEnv"] == [
            {"secretKey": "accesskey", "envVar": "AWS_ACCESS_KEY_ID"},
            {"secretKey": "secretkey", "envVar": "AWS_SECRET_ACCESS_KEY"},
        ]


@each_deployment
def test_every_task_leaves_its_failure_where_kubernetes_reads_it(name: str) -> None:
    pipeline, _ = documents(deployment(name, "environment={OPTDUEL_TERMINATION_LOG: /elsewhere}"))
    for container in containers(pipeline).values():
        assert {"name": TERMINATION_LOG_VARIABLE, "value": "/dev/termination-log"} in container["env"]


@each_deployment
def test_no_task_runs_as_root(name: str) -> None:
    _, kubernetes = documents(deployment(name))
    for settings in kubernetes["deploymentSpec"]["executors"].values():
        assert settings["securityContext"] == {
            "runAsUser": "65532",
            "runAsGroup": "65532",
            "runAsNonRoot": True,
        }


@each_deployment
def test_only_training_goes_to_the_nodes_that_train(name: str) -> None:
    _, kubernetes = documents(deployment(name, "node_selector={pool: gpu}"))
    for executor, settings in kubernetes["deploymentSpec"]["executors"].items():
        if executor.startswith("exec-train"):
            assert settings["nodeSelector"] == {"labels": {"pool": "gpu"}}
            assert settings["tolerations"] == [
                {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}
            ]
        else:
            assert {"nodeSelector", "tolerations"}.isdisjoint(settings)


def test_training_in_its_own_pod_has_shared_memory() -> None:
    _, kubernetes = documents(deployment("pod"))
    executors = kubernetes["deploymentSpec"]["executors"]
    assert executors["exec-train"]["emptyDirMounts"] == [
        {"volumeName": "dshm", "mountPath": "/dev/shm", "medium": "Memory"}
    ]
    assert "emptyDirMounts" not in executors["exec-evaluate"]


@pytest.mark.parametrize("kind", ["trainjob", "tfjob"])
def test_a_training_job_is_launched_with_the_deployments_settings(kind: str) -> None:
    pipeline, _ = documents(deployment(kind, "job.queue=gpus", "kept_seconds=3600"))
    for arm in ("sgd-l2", "adamw"):
        given = tasks_of(pipeline["root"])[arm]["inputs"]["parameters"]["job"]["runtimeValue"]["constant"]
        job = json.loads(given)
        assert (job["kind"], job["image"], job["queue"]) == (kind, IMAGE, "gpus")
        assert job["kept_seconds"] == 3600
        assert job_settings(given).gang_seconds == 1800
        parameters = trials_of(pipeline, arm)[f"train {arm} seed 0"]["inputs"]["parameters"]
        assert parameters["job"] == {"componentInputParameter": "job"}
        assert parameters["run"] == {"runtimeValue": {"constant": "{{$.pipeline_job_uuid}}"}}
    passthroughs = pipeline["components"]["comp-train-on-cluster"]["taskConfigPassthroughs"]
    passed = {one["field"]: one.get("applyToTask", False) for one in passthroughs}
    assert passed["RESOURCES"] is False, "the launcher's own pod asks for no GPU"
    assert passed["ENV"] is True
    assert {"KUBERNETES_TOLERATIONS", "KUBERNETES_NODE_SELECTOR"} <= set(passed)


@each_deployment
def test_finished_runs_are_kept_as_long_as_the_deployment_says(name: str) -> None:
    pipeline, kubernetes = documents(deployment(name, "kept_seconds=7200"))
    # Of what is left out the server takes its own, an hour, and that comes first.
    kept = ("resourceTtlOnCompletion", "resourceTtlOnSuccess", "resourceTtlOnFailure")
    assert kubernetes["pipelineConfig"] == dict.fromkeys(kept, 7200)
    assert Compiled(pipeline, {"platforms": {"kubernetes": kubernetes}}).ttl() == {
        "secondsAfterCompletion": 7200,
        "secondsAfterSuccess": 7200,
        "secondsAfterFailure": 7200,
    }


def test_a_deployment_changes_no_records_key() -> None:
    """So that other nodes or retries do not prepare the same data again."""
    before = compiled_pipeline()
    after, _ = documents(deployment("trainjob", "retries.attempts=9", "train.memory=64Gi"))
    assert parameters_of(before, "prepare") == parameters_of(after, "prepare")
    assert containers(before)["prepare"]["command"] == containers(after)["prepare"]["command"]


def tuned_pipeline(name: str, tasks: int) -> dict[str, Any]:
    assignments = ("study.seeds=[0,1]", f"tuning.tasks={tasks}")
    compiled_bytes = compiled_once(deployment(name).canonical_json(), *assignments)
    document: dict[str, Any] = next(yaml.load_all(compiled_bytes, yaml.CSafeLoader))
    return document


@each_deployment
def test_what_was_chosen_reaches_the_trials_at_run_time(name: str) -> None:
    root = tasks_of(tuned_pipeline(name, tasks=2)["root"])
    assert {"tune-sgd-l2", "tune-adamw"} <= set(root["choose"]["dependentTasks"])
    for arm in ("sgd-l2", "adamw"):
        chosen = root[arm]["inputs"]["parameters"]["chosen"]
        assert chosen["taskOutputParameter"]["producerTask"] == "choose"
    assert "choose" not in tasks_of(compiled_pipeline()["root"])


@each_deployment
def test_no_task_reads_another_tasks_parameter_within_a_loop(name: str) -> None:
    """KFP's local runner would hand it the loop's item instead."""
    pipeline = tuned_pipeline(name, tasks=2)
    loops = [
        pipeline["components"][task["componentRef"]["name"]]
        for dag in (pipeline["root"], *pipeline["components"].values())
        if "dag" in dag
        for task in tasks_of(dag).values()
        if "parameterIterator" in task
    ]
    assert len(loops) == 2, "one of each arm's settings"
    for loop in loops:
        (task,) = tasks_of(loop).values()
        told = task["inputs"]["parameters"].values()
        assert not any("taskOutputParameter" in one for one in told)


def test_one_task_of_an_arms_tuning_needs_no_loop() -> None:
    pipeline = tuned_pipeline("pod", tasks=1)
    assert not [part for part in pipeline["components"] if "for-loop" in part]


def test_too_many_tasks_of_a_tuning_are_refused() -> None:
    with pytest.raises(ExperimentError, match="tuning.tasks = 11: with 2 arms the run has 22 tuning tasks"):
        compiled(load_experiment("digits", ["tuning.tasks=11"]), deployment())
