"""What the README and the guides say is true, as far as it can be told here."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from optduel.components.core import ERROR_TYPES, OptduelError
from optduel.pipeline.cli.arguments import KUBEFLOW_OPTIONS
from optduel.pipeline.cli.command_line import main
from optduel.pipeline.cli.shipped import shipped_names
from tests.architecture.documents import (
    REPOSITORY,
    Document,
    broken_links,
    documents,
    kustomize_folders,
    missing_paths,
    unknown_columns,
    unknown_variables,
    wrong_commands,
)
from tests.cluster.kustomize import needs_kubectl, render

MOST_README_LINES = 250
MOST_README_BYTES = 20 * 1024

Check = Callable[[Document], Iterator[str]]


def document(name: str) -> Document:
    path = REPOSITORY / name
    return Document(path, path.read_text(encoding="utf-8"))


def found(check: Check, files: list[Path]) -> dict[str, list[str]]:
    """The problems of each document that has any."""
    problems = {str(one.path.relative_to(REPOSITORY)): list(check(one)) for one in documents(files)}
    return {name: several for name, several in problems.items() if several}


def test_the_readme_is_read_to_its_end() -> None:
    text = document("README.md").text
    assert len(text.splitlines()) < MOST_README_LINES
    assert len(text.encode()) < MOST_README_BYTES


def test_the_readme_shows_every_room() -> None:
    readme = document("README.md")
    (tree,) = [block for block in readme.blocks if block.startswith("components/")]
    rooms = [
        path.parent.name
        for package in ("components", "pipeline")
        for path in sorted((REPOSITORY / package).glob("*/__init__.py"))
    ]
    assert "train" in rooms
    assert [room for room in rooms if not re.search(rf"\b{room}/", tree)] == []


@pytest.mark.parametrize("check", [broken_links, missing_paths, unknown_columns, wrong_commands])
def test_documents_name_what_is_there(check: Check, project_files: list[Path]) -> None:
    assert documents(project_files)
    assert found(check, project_files) == {}


def test_documents_name_variables_that_the_code_reads(project_files: list[Path]) -> None:
    code = [path for path in project_files if path.suffix in (".py", ".sh", ".yaml") or not path.suffix]
    sources = "\n".join(path.read_text(encoding="utf-8") for path in code if path.name != "test_documents.py")
    assert found(lambda one: unknown_variables(one, sources), project_files) == {}


@pytest.mark.parametrize(
    ("check", "text", "problem"),
    [
        (broken_links, "see [it](nowhere.md)", "nowhere.md: no such file"),
        (broken_links, "![it](pipeline/nowhere.png)", "pipeline/nowhere.png: no such file"),
        (broken_links, "# A heading\n\n[it](#a-heading) [it](#another)", "#another: no such heading"),
        (broken_links, "[it](CONTRIBUTING.md#nothing)", "CONTRIBUTING.md#nothing: no such heading"),
        (missing_paths, "in `components/core/gone.py`", "components/core/gone.py: no such path"),
        (wrong_commands, "say `optduel begin digits`", "optduel begin digits: no command begin"),
        (wrong_commands, "say `optduel schedule stop`", "optduel schedule stop: no command stop"),
        (wrong_commands, "say `optduel run --again`", "optduel run --again: no option --again"),
        (wrong_commands, "say `make everything`", "make everything: no target everything"),
        (wrong_commands, "    $ optduel run digits --again", "unrecognized arguments: --again"),
        (wrong_commands, "    optduel run digit", "no such experiment; did you mean 'digits'"),
        (wrong_commands, "    optduel run digits --set training.epoch=3", "training.epoch"),
        (wrong_commands, "    optduel submit digits --deployment pods --image x:1", "did you mean 'pod'"),
        (wrong_commands, "    optduel submit digits \\\n      --deploy train.cpus=1", "train.cpus"),
        (wrong_commands, "    --root /srv --deploy secrets=[]", "must be a URI"),
        (wrong_commands, "    optduel doctor --worker two &", "argument --workers: invalid int value: 'two'"),
        (wrong_commands, "    make images TARGET=cpu", "no variable TARGET"),
        (wrong_commands, "    A=1 make test TEST_FLAGS=tests/gone", "no path tests/gone"),
        (wrong_commands, '    make bench BENCH_FLAGS="arms --epochs 2"', "arms"),
        (wrong_commands, "    kubectl apply -k manifests/overlays/gone", "no manifests/overlays/gone"),
        (wrong_commands, "    images/build-base.sh name", "no such program"),
        (unknown_columns, "    SELECT arm, steps FROM 'runs/**/history.parquet'", "steps: no such column"),
        (unknown_columns, "    SELECT arm, step FROM 'index/*.parquet'", "step: no such column"),
        (wrong_commands, "    python -m tests.benchmarks.gone", "no module tests.benchmarks.gone"),
    ],
)
def test_what_is_not_true_is_found(check: Check, text: str, problem: str) -> None:
    (told,) = check(Document(REPOSITORY / "README.md", text))
    assert problem in told


def test_a_variable_that_no_code_reads_is_found() -> None:
    planted = Document(REPOSITORY / "README.md", "set OPTDUEL_SPEED and OPTDUEL_STAGING")
    assert list(unknown_variables(planted, "OPTDUEL_STAGING_BYTES OPTDUEL_STAGING")) == [
        "OPTDUEL_SPEED: no such variable"
    ]


@needs_kubectl
def test_folders_that_the_guides_apply_can_be_rendered(project_files: list[Path]) -> None:
    folders = set().union(*(kustomize_folders(one) for one in documents(project_files)))
    assert {"manifests/overlays/kind", "manifests/overlays/gke"} <= folders
    for folder in folders:
        assert render(REPOSITORY / folder), folder


def test_guides_tell_of_every_shipped_experiment_and_deployment() -> None:
    assert sorted(document("README.md").column("experiment")) == shipped_names()
    rows = document("pipeline/experiments/README.md").column("experiment")
    assert {row.partition(",")[0] for row in rows} == set(shipped_names())
    told = {name.partition(" ")[0] for name in document("pipeline/deployments/README.md").column("shipped")}
    assert told == {path.stem for path in (REPOSITORY / "pipeline/deployments").glob("*.yaml")}


def test_the_table_of_exit_codes_is_that_of_the_errors() -> None:
    guide = document("components/train/cluster/README.md")
    told = {
        name: int(code)
        for code, names in zip(guide.column("code"), guide.column("code", 1), strict=True)
        for name in names.split(", ")
        if name
    }
    # A run that failed on Kubeflow Pipelines is an error of the command line; no worker ends with it.
    assert told == {name: error.worker_exit_code for name, error in ERROR_TYPES.items() if name != "RunError"}
    assert OptduelError.__name__ not in told


def test_the_ways_to_kubeflow_are_those_of_the_command_line() -> None:
    guide = document("pipeline/deployments/README.md")
    told = [cell.split()[0] for cell in guide.column("option")]
    assert dict(zip(told, guide.column("option", 1), strict=True)) == {
        option.flag: option.variable for option in KUBEFLOW_OPTIONS
    }


@pytest.mark.parametrize("command", ["show tutorial --examples 2935"])
def test_what_the_readme_shows_is_what_the_command_prints(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (shown,) = [block for block in document("README.md").blocks if block.startswith(f"$ optduel {command}\n")]
    assert main(command.split()) == 0
    printed = re.sub(r"^# ?", "", capsys.readouterr().out, flags=re.MULTILINE)
    assert shown.partition("\n")[2].strip() in printed
