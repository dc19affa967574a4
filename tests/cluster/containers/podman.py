"""Podman as the tests need it: commands, its API on a socket, and what no machine shall keep of them."""

import contextlib
import os
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

IMAGE = os.environ.get("OPTDUEL_TEST_IMAGE")  # before the environment is cleaned

_SECONDS = 180.0


def missing() -> str:
    """Why no containers can be run here; empty where they can."""
    if IMAGE is None:
        return "OPTDUEL_TEST_IMAGE names no image that `make images` built"
    if os.geteuid() != 0:
        return "podman's networks need root"
    absent = [tool for tool in ("podman", "ip", "iptables") if shutil.which(tool) is None]
    return f"not installed: {', '.join(absent)}" if absent else ""


class Podman:
    """Runs podman's commands.

    Args:
        folder: for its configuration and its socket.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        configuration = folder / "containers.conf"
        # By default podman raises these limits for root, which takes a capability that root may lack.
        configuration.write_text(
            '[containers]\ndefault_ulimits = ["nofile=4096:4096", "nproc=4096:4096"]\n'
            'log_driver = "k8s-file"\n[engine]\nevents_logger = "file"\n'
        )
        self._environment = {**os.environ, "CONTAINERS_CONF": str(configuration)}

    def run(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Runs `podman ARGUMENT...`; fails with what it said when it failed."""
        finished = subprocess.run(
            ["podman", *arguments],
            env=self._environment,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_SECONDS,
            check=False,
        )
        assert finished.returncode == 0 or not check, f"podman {arguments}: {finished.stderr}"
        return finished

    def run_hardened(
        self, command: Sequence[str], variables: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Runs a command in the image, with a read-only root, no capabilities and no network."""
        assert IMAGE is not None
        given = [f"--env={name}={value}" for name, value in (variables or {}).items()]
        return self.run(
            *["run", "--rm", "--read-only", "--read-only-tmpfs=false", "--tmpfs=/tmp", "--network=none"],
            *["--cap-drop=ALL", "--security-opt=no-new-privileges", *given, IMAGE, *command],
            check=False,
        )

    @contextlib.contextmanager
    def mounted(self) -> Iterator[Path]:
        """The image's files."""
        assert IMAGE is not None
        place = self.run("image", "mount", IMAGE).stdout.strip()
        try:
            yield Path(place)
        finally:
            self.run("image", "umount", IMAGE)

    @contextlib.contextmanager
    def network(self, name: str) -> Iterator[list[str]]:
        """A network that reaches nothing outside; yields addresses for its containers."""
        self.run("network", "create", "--internal", name)
        try:
            subnet = self.run(
                *["network", "inspect", name, "--format", "{{range .Subnets}}{{.Subnet}}{{end}}"]
            ).stdout.strip()
            prefix = subnet.rpartition(".")[0]
            yield [f"{prefix}.{host}" for host in range(10, 20)]
        finally:
            self.run("network", "rm", "--force", name)

    @contextlib.contextmanager
    def service(self) -> Iterator[str]:
        """Podman's API, which docker's clients speak; yields the value of DOCKER_HOST."""
        socket = self._folder / "podman.sock"
        command = ["podman", "system", "service", "--time=0", f"unix://{socket}"]
        with (self._folder / "service.log").open("w") as log:
            process = subprocess.Popen(command, env=self._environment, stdout=log, stderr=log)
            try:
                deadline = time.monotonic() + 30
                while not socket.exists():
                    assert process.poll() is None, "podman's API has ended"
                    assert time.monotonic() < deadline, "podman's API did not start"
                    time.sleep(0.05)
                yield f"unix://{socket}"
            finally:
                process.terminate()
                process.wait(30)
