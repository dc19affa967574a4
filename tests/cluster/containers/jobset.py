"""Plays Kubeflow Trainer, JobSet and kubelet: a TrainJob's pods as containers of podman, all or nothing."""

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from optduel.components.train.cluster.jobs import Order
from optduel.components.train.cluster.settings import JobSettings, PodSettings
from optduel.components.train.cluster.trainjob import TrainJobs
from tests.cluster.containers.podman import Podman

RUNTIME = Path(__file__).parents[3] / "manifests/base/runtime/tensorflow-distributed.yaml"

Object = dict[str, Any]


@dataclass(frozen=True)
class Ended:
    """How a worker's container ended: its exit code, and what it left as its termination message."""

    code: int
    message: str


class JobSet:
    """The group of a task's workers.

    Args:
        folder: shared by all workers, at the same path, as a volume would be.
        task_file: within it.
        addresses: of the workers.
    """

    def __init__(
        self, podman: Podman, image: str, network: str, addresses: list[str], folder: Path, task_file: str
    ) -> None:
        self._podman = podman
        self._network = network
        self._folder = folder
        self._name = folder.name
        self._addresses = addresses
        job = self._train_job(image, task_file, len(addresses))
        self._trainer = job["spec"]["trainer"]
        runtime = yaml.safe_load(RUNTIME.read_text())
        (replicated,) = runtime["spec"]["template"]["spec"]["replicatedJobs"]
        self._pod: Object = replicated["template"]["spec"]["template"]["spec"]
        (self._container,) = self._pod["containers"]
        self.attempt = 0

    def start(self, *options: str) -> None:
        """Makes the containers of the next attempt; those of the last one are gone before.

        Args:
            options: of `podman run`, for what a node's device plugin would add.
        """
        self.remove()
        self.attempt += 1
        for index in range(len(self._addresses)):
            self._podman.run(*self._arguments(index, options))

    def remove(self) -> None:
        """Ends and removes the group's containers."""
        for index in range(len(self._addresses)):
            self._podman.run("rm", "--force", "--ignore", "--time=0", self.container(index))

    def container(self, index: int) -> str:
        """Name of a worker's container."""
        return f"{self._name}-{index}"

    def wait(self, seconds: float) -> dict[int, Ended]:
        """How the workers of this attempt ended, when all of them have."""
        deadline = time.monotonic() + seconds
        for index in range(len(self._addresses)):
            while self._podman.run("inspect", "--format={{.State.Status}}", self.container(index)).stdout != (
                "exited\n"
            ):
                assert time.monotonic() < deadline, self.logs()
                time.sleep(0.2)
        return {
            index: Ended(
                int(
                    self._podman.run("inspect", "--format={{.State.ExitCode}}", self.container(index)).stdout
                ),
                self._termination_log(index).read_text(),
            )
            for index in range(len(self._addresses))
        }

    def logs(self) -> str:
        """What the workers said."""
        said = []
        for index in range(len(self._addresses)):
            told = self._podman.run("logs", self.container(index), check=False)
            said += [f"worker {index} | {line}" for line in (told.stdout + told.stderr).splitlines()]
        return "\n".join(said)

    def _train_job(self, image: str, task_file: str, workers: int) -> Object:
        order = Order(
            name="trial",
            namespace="study",
            labels={},
            owners=[],
            trial="a trial",
            settings=JobSettings(image=image),
            pods=PodSettings(),
            workers=workers,
            task_file=task_file,
            seconds=600,
        )
        return TrainJobs([]).body(order)

    def _arguments(self, index: int, options: tuple[str, ...]) -> list[str]:
        container, security = self._container, self._container["securityContext"]
        assert security["capabilities"] == {"drop": ["ALL"]}
        assert security["readOnlyRootFilesystem"] is True
        assert security["allowPrivilegeEscalation"] is False
        # As kubelet makes it: empty, and every user of the container may write it.
        log = self._termination_log(index)
        log.write_text("")
        log.chmod(0o666)
        hosts = [
            f"--add-host=trial-node-0-{peer}.trial.study.svc:{address}"
            for peer, address in enumerate(self._addresses)
        ]
        user, group = (self._pod["securityContext"][key] for key in ("runAsUser", "runAsGroup"))
        return [
            *["run", "--detach", f"--name={self.container(index)}", f"--hostname=trial-node-0-{index}"],
            *[f"--network={self._network}", f"--ip={self._addresses[index]}", *hosts],
            *[f"--user={user}:{group}", "--read-only", "--read-only-tmpfs=false"],
            *["--cap-drop=ALL", "--security-opt=no-new-privileges"],
            *[f"--env={name}={value}" for name, value in self._variables(index).items()],
            *[f"--mount=type=tmpfs,destination={path}" for path in self._scratch()],
            f"--volume={log}:{container['terminationMessagePath']}",
            f"--volume={self._folder}:{self._folder}",
            *options,
            *[self._trainer["image"], *container["command"], *self._trainer["args"]],
        ]

    def _variables(self, index: int) -> dict[str, str]:
        """The runtime's environment, under that of the TrainJob."""
        annotations = {"batch.kubernetes.io/job-completion-index": str(index)}
        fields = {f"metadata.annotations['{name}']": value for name, value in annotations.items()}
        return {
            entry["name"]: (
                entry["value"] if "value" in entry else fields[entry["valueFrom"]["fieldRef"]["fieldPath"]]
            )
            for entry in [*self._container["env"], *self._trainer["env"]]
        }

    def _scratch(self) -> list[str]:
        """Where empty volumes are mounted."""
        volumes = {volume["name"]: volume for volume in self._pod["volumes"]}
        mounts = self._container["volumeMounts"]
        assert all("emptyDir" in volumes[mount["name"]] for mount in mounts)
        return [mount["mountPath"] for mount in mounts]

    def _termination_log(self, index: int) -> Path:
        return self._folder.with_name(f"{self._name}-termination-{self.attempt}-{index}.json")


def give_to_workers(folder: Path, user: int = 65532) -> None:
    """Makes the workers' user the owner of a shared folder, as a volume's fsGroup would."""
    for place, _, files in os.walk(folder):
        os.chown(place, user, user)
        for name in files:
            os.chown(Path(place) / name, user, user)
