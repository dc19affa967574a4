"""Where things stand and how large they are."""

import ast
import re
from collections import Counter
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
SOURCES = [
    path for package in ("pipeline", "components") for path in sorted((REPOSITORY / package).rglob("*.py"))
]

MOST_LINES = 450
MOST_CORE_LINES = 500

FACED = (
    "redaction",
    "decoding",
    "core",
    "settings",
    "storage",
    "records",
    "results",
    "champions",
    "kubernetes",
    "numerics",
    "workflows",
    "augmentation",
    "pretrained",
    "prepare.sources",
)
"""Rooms of components that others enter by their face, the names that `__init__` shows."""

NAMELESS = re.compile(r"(^|_)(utils?|helpers?|common|misc|managers?)($|_)")
"""Modules that would be named after no concept."""


def test_no_file_is_longer_than_one_subject() -> None:
    lengths = {str(path.relative_to(REPOSITORY)): len(path.read_text().splitlines()) for path in SOURCES}
    assert {name: lines for name, lines in lengths.items() if lines > MOST_LINES} == {}


def test_the_core_stays_small() -> None:
    lines = [len(path.read_text().splitlines()) for path in (REPOSITORY / "components/core").glob("*.py")]
    assert sum(lines) < MOST_CORE_LINES


def test_no_two_files_have_one_name() -> None:
    names = Counter(path.name for path in SOURCES)
    assert {name for name, count in names.items() if count > 1} == {"component.py", "__init__.py"}


def test_no_two_public_classes_have_one_name() -> None:
    """A name is one thing, whoever reads it: no class has to be told apart by the module it comes from."""
    defined = Counter(
        node.name
        for path in SOURCES
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_")
    )
    assert {name for name, count in defined.items() if count > 1} == set()


def test_nobody_imports_past_a_face() -> None:
    found = []
    for path in SOURCES:
        module = ".".join(["optduel", *path.relative_to(REPOSITORY).with_suffix("").parts])
        for node in ast.walk(ast.parse(path.read_text())):
            imported = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            imported += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            found += [
                f"{module}: {name}"
                for name in imported
                for room in FACED
                if name.startswith(f"optduel.components.{room}.")
                and not module.startswith(f"optduel.components.{room}.")
            ]
    assert found == []


def test_modules_are_named_after_concepts() -> None:
    nameless = [path for path in SOURCES if any(NAMELESS.search(part) for part in path.with_suffix("").parts)]
    assert nameless == []


def test_no_file_names_a_machine_or_a_registry(project_files: list[Path]) -> None:
    somebody = r"/(?:home|Users)/(?!optduel\b)\w+/"
    registries = "|".join([r"pypi\." + "org", r"python" + r"hosted\.", r"index-" + r"url[ =]+\S*://"])
    private = re.compile(f"{re.escape(str(REPOSITORY))}/|{somebody}|{registries}")
    found = []
    for path in project_files:
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except UnicodeDecodeError:
            continue
        found += [f"{path}:{number}" for number, line in enumerate(lines, start=1) if private.search(line)]
    assert found == []


def test_no_file_is_too_large_for_a_repository(project_files: list[Path]) -> None:
    assert [path for path in project_files if path.stat().st_size > 1_000_000] == []
