"""`optduel doctor` against servers of both APIs that keep what a cluster keeps."""

import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from optduel.components.storage import list_entries
from optduel.pipeline.cli.command_line import main
from tests.cluster.kfp_server import KfpServer
from tests.cluster.kubernetes_server import KubernetesServer
from tests.cluster.roles import MANIFESTS, launcher_permissions
from tests.servers.places import PlaceOf

RUNTIME = MANIFESTS / "base/runtime/tensorflow-distributed.yaml"
GPU_NODE = {"key": "nvidia.com/gpu", "value": "present", "effect": "NoSchedule"}


def node(name: str, gpus: int = 0, labels: dict[str, str] | None = None, **spec: Any) -> dict[str, Any]:
    amounts = {"cpu": "8", "memory": "32Gi", **({"nvidia.com/gpu": str(gpus)} if gpus else {})}
    return {
        "metadata": {"name": name, "labels": labels or {}},
        "spec": spec,
        "status": {"allocatable": amounts},
    }


def config_map(version: str) -> dict[str, Any]:
    return {"metadata": {"name": "kubeflow-trainer-public"}, "data": {"kubeflow_trainer_version": version}}


def deployment(name: str, replicas: int = 1) -> dict[str, Any]:
    return {
        "metadata": {"name": name},
        "spec": {"replicas": replicas},
        "status": {"readyReplicas": replicas} if replicas else {},
    }


def webhooks(name: str, service: str, group: str, resource: str, **fields: Any) -> dict[str, Any]:
    """A configuration as Trainer 2.3 and JobSet 0.12 have it, in what the doctor reads."""
    where = {"namespace": "kubeflow-system", "name": service}
    webhook = {
        "name": f"validator.{resource}.{group}",
        "clientConfig": {"service": where, "caBundle": "Y2E="},
        "failurePolicy": "Fail",
        "rules": [{"apiGroups": [group], "resources": [resource], "operations": ["CREATE"]}],
    }
    return {"metadata": {"name": name}, "webhooks": [webhook | fields]}


def endpoints(service: str, *ready: bool | None) -> dict[str, Any]:
    found = [
        {"addresses": ["10.0.0.1"], "conditions": {} if one is None else {"ready": one}} for one in ready
    ]
    return {
        "metadata": {"name": f"{service}-abc", "labels": {"kubernetes.io/service-name": service}},
        "endpoints": found,
    }


TRAINER = "kubeflow-trainer-controller-manager"
JOBSET = "jobset-controller-manager"


class World:
    """A cluster that is ready for training jobs."""

    def __init__(self, kfp: KfpServer, kubernetes: KubernetesServer, root: Path) -> None:
        self.kfp, self.kubernetes, self.root = kfp, kubernetes, root
        kubernetes.add("configmaps", config_map("v2.3.0"), namespace="kubeflow-system")
        kubernetes.add("clustertrainingruntimes", yaml.safe_load(RUNTIME.read_text()))
        kubernetes.add("secrets", {"metadata": {"name": "mlpipeline-minio-artifact"}}, namespace="kubeflow")
        for namespace, account in (("kubeflow", "pipeline-runner"), ("team", "default-editor")):
            kubernetes.accounts[f"system:serviceaccount:{namespace}:{account}"] = launcher_permissions()
        for name in (TRAINER, JOBSET):
            kubernetes.add("deployments", deployment(name), namespace="kubeflow-system")
        for name in ("workflow-controller", "ml-pipeline-persistenceagent", "another"):
            kubernetes.add("deployments", deployment(name), namespace="kubeflow")
        kubernetes.add(
            "validatingwebhookconfigurations",
            webhooks("validator.trainer.kubeflow.org", TRAINER, "trainer.kubeflow.org", "trainjobs"),
        )
        kubernetes.add(
            "mutatingwebhookconfigurations",
            webhooks("jobset-mutating", "jobset-webhook-service", "jobset.x-k8s.io", "jobsets"),
        )
        for service in (TRAINER, "jobset-webhook-service"):
            kubernetes.add("endpointslices", endpoints(service, True), namespace="kubeflow-system")
        kubernetes.add("nodes", node("gpu-1", gpus=1, taints=[GPU_NODE]))
        kubernetes.add("nodes", node("gpu-2", gpus=1, taints=[GPU_NODE]))
        kubernetes.add("nodes", node("small"))

    def examine(self, capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, dict[str, Any]]:
        given = ["--host", self.kfp.url, "--json", "--deployment", "trainjob"]
        code = main(["doctor", *given, *arguments])
        checks = json.loads(capsys.readouterr().out)
        assert len({check["name"] for check in checks}) == len(checks)
        return code, {check["name"]: check for check in checks}


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    with KfpServer() as kfp, KubernetesServer() as kubernetes:
        monkeypatch.setenv("KUBECONFIG", str(kubernetes.write_kubeconfig(tmp_path / "kubeconfig")))
        yield World(kfp, kubernetes, tmp_path)


def test_a_ready_cluster_passes(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    code, checks = world.examine(capsys, "--workers", "2")
    states = {name: check["status"] for name, check in checks.items()}
    assert states == {
        "kubeflow pipelines": "ok",
        "identity": "ok",
        "kubernetes": "ok",
        "controllers": "ok",
        "trainer": "ok",
        "runtime": "ok",
        "webhooks": "ok",
        "permissions": "ok",
        "secret mlpipeline-minio-artifact": "ok",
        "accelerators": "ok",
        "nodes": "ok",
        "storage root": "skipped",
    }
    assert code == 0
    assert "version 2.17.0" in checks["kubeflow pipelines"]["detail"]
    assert checks["trainer"]["detail"] == "Kubeflow Trainer v2.3.0"
    assert "service account pipeline-runner in namespace kubeflow" in checks["permissions"]["detail"]
    assert "2 nvidia.com/gpu on 3 of 3 nodes" in checks["accelerators"]["detail"]


def test_lines_are_for_people(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["doctor", "--host", world.kfp.url, "--deployment", "trainjob"])
    captured = capsys.readouterr()
    assert (code, captured.err) == (0, "")
    assert captured.out.splitlines()[1] == "ok       identity: may list runs"


def old_trainer(world: World) -> None:
    world.kubernetes.remove("configmaps", "kubeflow-trainer-public", namespace="kubeflow-system")
    world.kubernetes.add("configmaps", config_map("v2.1.0"), namespace="kubeflow-system")


def older_trainer(world: World) -> None:
    world.kubernetes.remove("configmaps", "kubeflow-trainer-public", namespace="kubeflow-system")


def no_trainer(world: World) -> None:
    world.kubernetes.uninstall("trainer.kubeflow.org")


def no_runtime(world: World) -> None:
    world.kubernetes.remove("clustertrainingruntimes", "tensorflow-distributed")


def strange_runtime(world: World) -> None:
    def change(runtime: dict[str, Any]) -> None:
        (job,) = runtime["spec"]["template"]["spec"]["replicatedJobs"]
        job["template"]["spec"]["template"]["spec"]["containers"][0]["command"] = ["python3", "other.py"]

    world.kubernetes.change("clustertrainingruntimes", "tensorflow-distributed", change)


def no_secret(world: World) -> None:
    world.kubernetes.remove("secrets", "mlpipeline-minio-artifact", namespace="kubeflow")


def too_few_gpus(world: World) -> None:
    world.kubernetes.remove("nodes", "gpu-2")


def cordoned(world: World) -> None:
    world.kubernetes.change("nodes", "gpu-2", lambda node: node["spec"].update(unschedulable=True))


def tainted(world: World) -> None:
    taint = {"key": "reserved", "value": "team", "effect": "NoSchedule"}
    world.kubernetes.change("nodes", "gpu-2", lambda node: node["spec"]["taints"].append(taint))


def scale_to_nothing(world: World, name: str, namespace: str) -> None:
    world.kubernetes.remove("deployments", name, namespace=namespace)
    world.kubernetes.add("deployments", deployment(name, 0), namespace=namespace)


def trainer_at_nothing(world: World) -> None:
    """Measured with `kubectl scale --replicas 0`: everything was said to be ok."""
    scale_to_nothing(world, TRAINER, "kubeflow-system")


def argo_at_nothing(world: World) -> None:
    scale_to_nothing(world, "workflow-controller", "kubeflow")


def jobset_starts(world: World) -> None:
    def unready(one: dict[str, Any]) -> None:
        one["status"] = {"replicas": 1, "unavailableReplicas": 1}

    world.kubernetes.change("deployments", JOBSET, unready, namespace="kubeflow-system")


def silent_webhook(world: World) -> None:
    world.kubernetes.remove("endpointslices", f"{TRAINER}-abc", namespace="kubeflow-system")
    world.kubernetes.add("endpointslices", endpoints(TRAINER, False, False), namespace="kubeflow-system")


def webhook_without_a_pod(world: World) -> None:
    world.kubernetes.remove("endpointslices", "jobset-webhook-service-abc", namespace="kubeflow-system")


def webhook_without_certificate(world: World) -> None:
    def change(one: dict[str, Any]) -> None:
        del one["webhooks"][0]["clientConfig"]["caBundle"]

    world.kubernetes.change("validatingwebhookconfigurations", "validator.trainer.kubeflow.org", change)


def small_gpu_nodes(world: World) -> None:
    for name in ("gpu-1", "gpu-2"):
        world.kubernetes.change("nodes", name, lambda node: node["status"]["allocatable"].update(cpu="3900m"))


def no_plain_node(world: World) -> None:
    world.kubernetes.remove("nodes", "small")


def busy_with_daemons(world: World) -> None:
    """As the nodes of kind are: 2 processors, of which static pods and DaemonSets request almost one."""
    world.kubernetes.remove("nodes", "small")
    small = node("small")
    small["status"]["allocatable"] = {"cpu": "2", "memory": "8130692Ki"}
    world.kubernetes.add("nodes", small)
    for name, owner, cpu in (
        ("etcd", "Node", "850m"),
        ("kindnet", "DaemonSet", "100m"),
        ("other", "Job", "9"),
    ):
        container = {"name": "main", "resources": {"requests": {"cpu": cpu, "memory": "100Mi"}}}
        metadata = {"name": name, "ownerReferences": [{"kind": owner, "name": "small", "uid": "1"}]}
        pod = {"metadata": metadata, "spec": {"nodeName": "small", "containers": [container]}}
        world.kubernetes.add("pods", pod | {"status": {"phase": "Running"}}, namespace="kube-system")


def wrong_kubernetes_token(world: World) -> None:
    world.kubernetes.token = "another"


@pytest.mark.parametrize(
    ("trouble", "name", "detail"),
    [
        (old_trainer, "trainer", "Kubeflow Trainer = v2.1.0: must be 2.2 or newer; upgrade it"),
        (older_trainer, "trainer", "publishes no version"),
        (no_trainer, "trainer", "no TrainJobs are served; install Kubeflow Trainer 2.2 or newer"),
        (
            no_runtime,
            "runtime",
            "ClusterTrainingRuntime tensorflow-distributed: is not there; apply the manifests",
        ),
        (
            strange_runtime,
            "runtime",
            "optduel.components.train.worker.worker with port 2222; apply the manifests",
        ),
        (no_secret, "secret mlpipeline-minio-artifact", "is not in namespace kubeflow; create it"),
        (too_few_gpus, "accelerators", "1 nvidia.com/gpu on 2 of 2 nodes that training may use: 2 x 1"),
        (cordoned, "accelerators", "1 nvidia.com/gpu on 2 of 3 nodes that training may use: 2 x 1"),
        (tainted, "accelerators", "1 nvidia.com/gpu on 2 of 3 nodes that training may use: 2 x 1"),
        (
            trainer_at_nothing,
            "controllers",
            f"Deployment kubeflow-system/{TRAINER}: 0 of 0 replicas are ready: runs would wait",
        ),
        (
            argo_at_nothing,
            "controllers",
            "Deployment kubeflow/workflow-controller: 0 of 0 replicas are ready",
        ),
        (jobset_starts, "controllers", f"Deployment kubeflow-system/{JOBSET}: 0 of 1 replicas are ready"),
        (
            silent_webhook,
            "webhooks",
            f"validator.trainjobs.trainer.kubeflow.org is served by kubeflow-system/{TRAINER}, which has no "
            "ready pod: every job would be refused; start that Deployment",
        ),
        (
            webhook_without_a_pod,
            "webhooks",
            "validator.jobsets.jobset.x-k8s.io is served by kubeflow-system/",
        ),
        (webhook_without_certificate, "webhooks", "has no certificate (caBundle) yet"),
        (
            small_gpu_nodes,
            "nodes",
            "train asks for 2 x (4 CPU, 16Gi, 1 nvidia.com/gpu): of the nodes that it may use, gpu-1 has 3.9 "
            "CPU, 32Gi, 1 nvidia.com/gpu, gpu-2 has 3.9 CPU, 32Gi, 1 nvidia.com/gpu, small has 8 CPU, 32Gi, "
            "0 nvidia.com/gpu; ask for less (--deploy train.cpu=... train.memory=...), or add nodes",
        ),
        (no_plain_node, "nodes", "prepare asks for 2 CPU, 4Gi: of the nodes that it may use, there is none"),
        (
            busy_with_daemons,
            "nodes",
            "prepare asks for 2 CPU, 4Gi: of the nodes that it may use, small has 1.05 CPU, 7.55Gi; ask for",
        ),
        (wrong_kubernetes_token, "kubernetes", "401: Unauthorized; renew the kubeconfig's credentials"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_what_is_missing_is_told_with_its_remedy(
    trouble: Any, name: str, detail: str, world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    trouble(world)
    code, checks = world.examine(capsys, "--workers", "2")
    assert code == 1
    assert checks[name]["status"] == "failed"
    assert detail in checks[name]["detail"]


def test_what_one_may_not_look_at_is_skipped(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    world.kubernetes.denied = {
        ("list", "", "nodes", ""),
        ("get", "", "secrets", ""),
        ("list", "apps", "deployments", ""),
        ("list", "discovery.k8s.io", "endpointslices", ""),
    }
    code, checks = world.examine(capsys)
    assert code == 0
    for name in ("nodes", "secret mlpipeline-minio-artifact", "controllers", "webhooks"):
        assert checks[name]["status"] == "skipped"
        assert "you may not look" in checks[name]["detail"]


def quiet_strangers(world: World) -> None:
    """A webhook of Katib, of the same API group as TFJobs, and one whose silence refuses nothing."""
    world.kubernetes.add(
        "validatingwebhookconfigurations", webhooks("katib", "katib", "kubeflow.org", "experiments")
    )
    ignored = webhooks("ignored", "absent", "trainer.kubeflow.org", "trainjobs", failurePolicy="Ignore")
    world.kubernetes.add("validatingwebhookconfigurations", ignored)


@pytest.mark.parametrize("kind", ["trainjob", "tfjob"])
def test_webhooks_that_do_not_matter_are_left_out(
    kind: str, world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    quiet_strangers(world)
    code, checks = world.examine(capsys, "--deployment", kind)
    assert (code, checks["webhooks"]["status"]) == (0, {"trainjob": "ok", "tfjob": "skipped"}[kind])


def test_a_webhook_whose_readiness_is_not_told_counts_as_ready(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    world.kubernetes.remove("endpointslices", f"{TRAINER}-abc", namespace="kubeflow-system")
    world.kubernetes.add("endpointslices", endpoints(TRAINER, False, None), namespace="kubeflow-system")
    assert world.examine(capsys)[1]["webhooks"]["status"] == "ok"


def test_without_a_look_at_pods_nodes_are_taken_for_empty_and_that_is_said(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    busy_with_daemons(world)
    world.kubernetes.denied = {("list", "", "pods", "")}
    check = world.examine(capsys)[1]["nodes"]
    assert check["status"] == "ok"
    assert check["detail"].endswith("you may not list pods, so what DaemonSets take is not known")


def test_nodes_are_those_that_the_deployment_selects(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    world.kubernetes.add("nodes", node("gpu-3", gpus=8, labels={"pool": "a"}))
    code, checks = world.examine(
        capsys, "--deploy", "node_selector={pool: a}", "--deploy", "train.accelerators=4"
    )
    assert (code, checks["accelerators"]["status"]) == (0, "ok")
    code, checks = world.examine(capsys, "--deploy", "node_selector={pool: b}")
    assert (code, checks["accelerators"]["status"]) == (1, "failed")


@pytest.mark.parametrize(
    ("toleration", "gpus", "status"),
    [
        ("{key: dedicated, value: training}", 8, "ok"),
        ("{key: dedicated, value: another}", 8, "failed"),
        ("{key: dedicated}", 8, "ok"),
        ("{key: dedicated, value: training, effect: NoExecute}", 8, "failed"),
        ("{key: plain, value: ''}", 4, "ok"),
        ("{key: plain, value: a}", 4, "failed"),
    ],
)
def test_taints_are_compared_as_the_scheduler_does(
    toleration: str, gpus: int, status: str, world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    dedicated = {"key": "dedicated", "value": "training", "effect": "NoSchedule"}
    world.kubernetes.add("nodes", node("gpu-3", gpus=8, taints=[dedicated]))
    plain = {"key": "plain", "effect": "NoSchedule"}
    world.kubernetes.add("nodes", node("gpu-4", gpus=4, taints=[plain]))
    _, checks = world.examine(
        capsys, "--deploy", f"tolerations=[{toleration}]", "--deploy", f"train.accelerators={gpus}"
    )
    assert checks["accelerators"]["status"] == status


def test_no_kubeconfig_and_no_kubeflow_are_two_failures(
    world: World, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUBECONFIG", str(world.root / "absent"))
    code, checks = world.examine(capsys, "--host", "http://127.0.0.1:1")
    assert code == 1
    assert set(checks) == {"kubeflow pipelines", "kubernetes", "storage root"}
    assert "set KUBECONFIG or --kube-context" in checks["kubernetes"]["detail"]


def test_kubernetes_that_does_not_answer_is_told(
    world: World, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    world.kubernetes.go_away()
    code, checks = world.examine(capsys)
    assert (code, checks["kubernetes"]["status"]) == (1, "failed")
    assert "no answer (" in checks["kubernetes"]["detail"]
    assert "check the kubeconfig's context" in checks["kubernetes"]["detail"]


def test_the_secret_of_the_alerts_has_to_be_there(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    alerts = ("--deploy", "alerts={secret_name: optduel-alerts}")
    code, checks = world.examine(capsys, *alerts)
    assert code == 1
    told = checks["secret optduel-alerts"]["detail"]
    assert told == "is not in namespace kubeflow; create it, or change the deployment (--deploy alerts=null)"
    world.kubernetes.add("secrets", {"metadata": {"name": "optduel-alerts"}}, namespace="kubeflow")
    assert world.examine(capsys, *alerts)[0] == 0


@pytest.fixture
def profile(world: World) -> World:
    """The world of a Kubeflow whose users have profiles, seen by `team`."""
    world.kfp.multi_user = True
    world.kubernetes.add("secrets", {"metadata": {"name": "mlpipeline-minio-artifact"}}, namespace="team")
    return world


def test_a_profiles_steps_run_as_its_editor(profile: World, capsys: pytest.CaptureFixture[str]) -> None:
    root = "minio://mlpipeline/private-artifacts/team/optduel"
    code, checks = profile.examine(capsys, "--namespace", "team", "--root", root)
    assert code == 0
    assert "service account default-editor in namespace team" in checks["permissions"]["detail"]


@pytest.mark.parametrize(
    "root",
    [
        "minio://mlpipeline/optduel",
        "minio://mlpipeline",
        "minio://mlpipeline/private-artifacts/team-b/optduel",
        "minio://mlpipeline/private-artifacts",
    ],
)
def test_a_root_that_a_profiles_key_does_not_open_is_told(
    root: str, profile: World, capsys: pytest.CaptureFixture[str]
) -> None:
    code, checks = profile.examine(capsys, "--namespace", "team", "--root", root)
    assert (code, checks["storage root"]["status"]) == (1, "failed")
    assert checks["storage root"]["detail"] == (
        f"root = {root}: Kubeflow's own store does not open it to the key of profile team; "
        "give --root minio://mlpipeline/private-artifacts/team/optduel"
    )


@pytest.mark.parametrize(
    "arguments",
    [
        ["--root", "minio://mlpipeline/private/team/optduel"],
        ["--root", "minio://mlpipeline/shared/optduel"],
        ["--root", "minio://mlpipeline/private-artifacts/team"],
        ["--root", "minio://mlpipeline-2/optduel"],
        ["--deploy", "environment.AWS_ENDPOINT_URL=http://minio.minio.svc:9000"],
    ],
)
def test_a_root_that_a_profiles_key_opens_is_not(
    arguments: list[str], profile: World, capsys: pytest.CaptureFixture[str]
) -> None:
    code, checks = profile.examine(capsys, "--namespace", "team", *arguments)
    assert (code, checks["storage root"]["status"]) == (0, "skipped")


def test_a_deployment_without_jobs_needs_no_training_operator(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    world.kubernetes.uninstall("trainer.kubeflow.org")
    code, checks = world.examine(capsys, "--deployment", "pod", "--deploy", "train.accelerators=0")
    assert code == 0
    assert {"trainer", "runtime", "permissions"}.isdisjoint(checks)
    assert checks["accelerators"]["detail"] == "the deployment asks for none"


def test_tfjobs_need_the_training_operator(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    code, checks = world.examine(capsys, "--deployment", "tfjob")
    assert (code, checks["training operator"]["status"]) == (0, "ok")
    world.kubernetes.uninstall("kubeflow.org")
    code, checks = world.examine(capsys, "--deployment", "tfjob")
    assert (code, checks["training operator"]["status"]) == (1, "failed")


@pytest.mark.parametrize("kind", ["gs", "minio"])
def test_the_root_is_written_read_and_cleared(
    kind: str, world: World, capsys: pytest.CaptureFixture[str], place_of: PlaceOf
) -> None:
    root = place_of(kind).root
    code, checks = world.examine(capsys, "--root", root)
    assert (code, checks["storage root"]["status"]) == (0, "ok"), checks["storage root"]
    assert list_entries(root) == []


def test_a_store_that_does_not_answer_is_given_up(
    world: World, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        port = bound.getsockname()[1]
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("OPTDUEL_STORAGE_SECONDS", "1")
    code, checks = world.examine(capsys)
    assert (code, checks["storage root"]["status"]) == (1, "failed")
    assert "minio://mlpipeline/optduel/doctor-" in checks["storage root"]["detail"]
