"""What is in the image, what is not, and that it starts where it may write nothing."""

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.containers.podman import Podman

ROOT = Path("opt/optduel")


@pytest.fixture(scope="module")
def configuration(podman: Podman, image: str) -> dict[str, Any]:
    (found,) = json.loads(podman.run("image", "inspect", image).stdout)
    return found  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def files(podman: Podman, image: str) -> Iterator[Path]:
    with podman.mounted() as place:
        yield place


def test_the_user_is_no_root_and_a_number(configuration: dict[str, Any]) -> None:
    # A name would not do: Kubernetes cannot tell that it is not root's.
    assert configuration["Config"]["User"] == "65532:65532"


def test_labels_tell_the_code_version_that_results_tell(configuration: dict[str, Any]) -> None:
    labels = configuration["Config"]["Labels"]
    variables = dict(entry.split("=", 1) for entry in configuration["Config"]["Env"])
    assert labels["org.opencontainers.image.title"] == "optduel"
    assert labels["org.opencontainers.image.licenses"] == "Apache-2.0"
    assert labels["org.opencontainers.image.description"].endswith(", on CPUs")
    assert labels["org.opencontainers.image.version"] == variables["OPTDUEL_CODE_VERSION"] != "unknown"


def test_nothing_hides_behind_an_entry_point(configuration: dict[str, Any]) -> None:
    assert not configuration["Config"].get("Entrypoint")
    assert configuration["Config"]["Cmd"] == ["optduel", "--help"]


def test_no_compiler_no_installer_and_no_cache_is_left(files: Path) -> None:
    programs = {
        path.name
        for folder in ("usr/bin", "usr/local/bin", ROOT / "bin")
        for path in (files / folder).glob("*")
    }
    assert programs & {"gcc", "cc", "g++", "c++", "clang", "ld", "as", "make", "pip", "pip3", "git"} == set()
    packages = {path.name for path in (files / ROOT / "lib").glob("python3.*/site-packages/*")}
    assert packages & {"pip", "setuptools", "wheel", "hatchling", "clang"} == set()
    assert [
        path for path in ("build", "code", "source", "root/.cache", "tmp/*") if list(files.glob(path))
    ] == []
    headers = list((files / ROOT / "lib").glob("python3.*/site-packages/**/include/**/*.h"))
    assert headers == []


def test_every_module_is_compiled(files: Path) -> None:
    packages = files / ROOT / "lib"
    sources = [path for path in packages.rglob("*.py") if path.stat().st_size]
    lacking = [path for path in sources if not list((path.parent / "__pycache__").glob(f"{path.stem}.*.pyc"))]
    assert len(sources) > 1000
    assert lacking == []


def test_nothing_tells_of_the_host_that_built_it(
    podman: Podman, image: str, configuration: dict[str, Any], files: Path
) -> None:
    history = podman.run("history", "--no-trunc", "--format", "{{.CreatedBy}}", image).stdout
    told = history + json.dumps(configuration["Config"])
    # The pinned base image tells where it took Python from.
    telling = r"https?://(?!github|www\.python\.org/)\S*|index-url|trusted-host|password|token|secret\b"
    assert re.findall(telling, told) == []
    left = [files / place for place in ("etc/pip.conf", "run/secrets", "tmp/.netrc", "root/.netrc")]
    assert [path for path in left if path.exists() and (path.is_file() or list(path.iterdir()))] == []
    # Where a package was installed from stands in direct_url.json, if anywhere.
    origins = [path.read_text() for path in (files / ROOT / "lib").rglob("direct_url.json")]
    assert [json.loads(origin)["url"] for origin in origins] == ["file:///source"]


def test_our_code_is_that_of_the_checkout(files: Path) -> None:
    repository = Path(__file__).parents[3]
    (packages,) = (files / ROOT / "lib").glob("python3.*/site-packages")
    tracked = subprocess.run(
        ["git", "ls-files", "components", "pipeline"],
        cwd=repository,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    # The wheel leaves the guides and their pictures out.
    shipped = [
        name for name in tracked if "pipeline/experiments/results/" not in name and not name.endswith(".md")
    ]
    assert [
        name
        for name in shipped
        if (packages / "optduel" / name).read_bytes() != (repository / name).read_bytes()
    ] == []


def test_the_command_line_starts_with_a_read_only_root(podman: Podman, image: str) -> None:
    finished = podman.run_hardened(["optduel", "--help"])
    assert finished.returncode == 0, finished.stderr
    assert "usage: optduel" in finished.stdout


@pytest.mark.parametrize(
    "command",
    [
        ["run", "digits"],
        ["compile", "digits", "--image", "optduel:1", "--output", "/tmp/digits.yaml"],
        ["submit", "digits", "--image", "optduel:1", "--dry-run"],
        ["status"],
        ["schedule", "list"],
        ["doctor"],
    ],
    ids=lambda command: command[0],
)
def test_commands_that_need_all_of_kfp_say_so(podman: Podman, image: str, command: list[str]) -> None:
    finished = podman.run_hardened(["optduel", *command])
    assert (finished.returncode, finished.stdout) == (2, "")
    (line,) = finished.stderr.splitlines()
    assert line.startswith("optduel: error: kfp.pipeline_spec: is not installed here")


@pytest.mark.parametrize("command", [["list"], ["show", "digits"], ["check", "digits"]], ids=lambda c: c[0])
def test_other_commands_work(podman: Podman, image: str, command: list[str]) -> None:
    finished = podman.run_hardened(["optduel", *command])
    assert finished.returncode == 0, finished.stderr
    assert "digits" in finished.stdout


IMPORTS = """
import ast, importlib, os, pathlib, pkgutil, sys, warnings
warnings.simplefilter("error")
warnings.filterwarnings("ignore", category=DeprecationWarning)
from optduel import components
for module in pkgutil.walk_packages(components.__path__, "optduel.components."):
    if not module.name.endswith(".component"):
        importlib.import_module(module.name)
# What is imported only when it is needed, too.
names = {"kfp.dsl.executor_main"}
for source in pathlib.Path(components.__path__[0]).rglob("*.py"):
    for node in ast.walk(ast.parse(source.read_text())):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            names.add(node.module)
assert {"pyarrow", "tensorflow", "tensorflow_datasets"} <= names, names
for name in sorted(names):
    if not name.endswith(".component"):
        importlib.import_module(name)
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
assert int(status["CapBnd"], 16) == int(status["CapEff"], 16) == 0, status
assert status["NoNewPrivs"].strip() == "1"
assert (os.getuid(), os.getgid()) == (65532, 65532)
try:
    open("/opt/optduel/x", "w")
except OSError:
    print("all is well")
"""


@pytest.mark.slow
def test_what_tasks_and_workers_import_is_there(podman: Podman, image: str) -> None:
    # As KFP's executor starts, with nothing but what a component's code needs of kfp.
    finished = podman.run_hardened(["python3", "-c", IMPORTS], {"_KFP_RUNTIME": "true"})
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout.endswith("all is well\n")
