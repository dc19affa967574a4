"""What no double can show: our manifests and the launcher before a real API server, Trainer and scheduler.

The workers ask for a node that no cluster has, so no image is needed: what is tested ends with their pods.
"""

import contextlib
import io
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from optduel.components.core import LaunchError, SetupError
from optduel.components.train.cluster.cluster_launcher import ClusterLauncher
from tests.cluster.conftest import job_json, make_task
from tests.cluster.control_plane.disposable import STEPS, Disposable
from tests.cluster.controllers import meanwhile, until
from tests.cluster.kustomize import OVERLAYS
from tests.cluster.roles import launcher_permissions


def train(run: str, seconds: float, output: Path) -> None:
    """Trains on two workers that no node takes, for so long."""
    placed = {"node_selector": {"optduel.io/no-such-node": "true"}}
    ClusterLauncher(job_json(gang_seconds=seconds), run, "task", placed).run(make_task(output))


def trained(run: str, seconds: float, output: Path, play: Callable[[], None] = lambda: None) -> str:
    """Trains beside `play`; returns what the launcher prints and, in the last line, the error."""
    narration = io.StringIO()
    with meanwhile(play), contextlib.redirect_stderr(narration), pytest.raises(LaunchError) as raised:
        train(run, seconds, output)
    return f"{narration.getvalue()}{raised.value}"


@pytest.mark.parametrize("name", OVERLAYS)
def test_an_overlay_can_be_applied_again(disposable: Disposable, name: str) -> None:
    objects = disposable.manifests(name)
    assert disposable.apply(objects) == disposable.apply(objects)
    disposable.apply(disposable.manifests("kind"))


def test_the_steps_account_may_do_what_the_launcher_does_and_no_more(disposable: Disposable) -> None:
    account = f"--as=system:serviceaccount:{disposable.namespace}:{STEPS}"
    listed = disposable.kubectl("auth", "can-i", "--list", "--no-headers", account)
    allowed = {
        (verb, *line.split()[0].partition(".")[::2])
        for line in listed.splitlines()
        if not line.startswith((" ", "self"))
        for verb in line[line.rindex("[") + 1 : line.rindex("]")].split()
        if verb
    }
    role = {
        (verb, f"{resource}/{part}" if part else resource, group)
        for verb, group, resource, part in launcher_permissions()
        if group != "kubeflow.org"
    }
    assert allowed == role | {("get", "clustertrainingruntimes", "trainer.kubeflow.org")}


@pytest.mark.usefixtures("as_steps")
def test_workers_that_no_node_takes_are_admitted_explained_and_deleted(
    disposable: Disposable, tmp_path: Path
) -> None:
    told = trained("nowhere", 10, tmp_path / "trial")
    assert "worker 0 of 2 cannot be scheduled: 0/" in told
    assert "0 of 2 workers run within job.gang_seconds = 10" in told
    assert disposable.jobs() == []
    until(lambda: not disposable.kubectl("get", "pods", "-o", "name"))


@pytest.mark.usefixtures("as_steps")
def test_a_job_is_taken_over_from_a_launcher_that_was_killed(disposable: Disposable, tmp_path: Path) -> None:
    code = f"from {__name__} import train; from pathlib import Path; train('killed', 60, Path(r'{tmp_path}'))"
    with subprocess.Popen([sys.executable, "-c", code], cwd=Path(__file__).parents[3]) as first:
        (job,) = until(disposable.jobs)
        first.kill()
    told = trained("killed", 5, tmp_path)
    assert f"{job.partition('/')[2]} exists already: follows it" in told
    assert disposable.jobs() == []


@pytest.mark.usefixtures("as_steps")
def test_a_job_that_somebody_deletes_is_not_made_again(disposable: Disposable, tmp_path: Path) -> None:
    def play() -> None:
        disposable.kubectl("delete", *until(disposable.jobs))

    assert "was deleted by someone else" in trained("deleted", 60, tmp_path, play)
    assert disposable.jobs() == []


def test_an_account_without_the_role_is_told_what_to_bind(
    disposable: Disposable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUBECONFIG", str(disposable.write_kubeconfig(tmp_path / "kubeconfig", "default")))
    with pytest.raises(SetupError, match="bind the Role optduel-launcher"):
        train("refused", 10, tmp_path)
