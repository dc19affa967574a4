"""KFP ships the source of a component function alone: what it may contain follows from that."""

import ast
import re
import sys
from pathlib import Path

import pytest

COMPONENTS = Path(__file__).parents[2] / "components"
STAGES = sorted(path.parent.name for path in COMPONENTS.glob("*/component.py"))
SHARED = {
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
}
MODULES = [ast.parse((COMPONENTS / stage / "component.py").read_text()) for stage in STAGES]
FUNCTIONS = [
    pytest.param(node, id=f"{stage}.{node.name}")
    for stage, module in zip(STAGES, MODULES, strict=True)
    for node in module.body
    if isinstance(node, ast.FunctionDef)
]
each_module = pytest.mark.parametrize("module", MODULES, ids=STAGES)
each_function = pytest.mark.parametrize("function", FUNCTIONS)

ANNOTATION = re.compile(r"str|int|float|bool|dsl\.\w+|dsl\.(Input|Output)\[(dsl\.\w+|List\[dsl\.\w+\])\]")
"""Parameters that survive KFP: it turns the ints of a dict into floats, and resolves no alias."""

MOST_STATEMENTS = 10


def test_every_stage_has_a_face() -> None:
    rooms = {path.parent.name for path in COMPONENTS.glob("*/__init__.py")}
    assert (
        set(STAGES)
        == rooms - SHARED
        == {
            *("prepare", "tune", "choose", "train", "evaluate", "compare", "report"),
            *("decide", "gate", "promote", "tell"),
        }
    )
    assert len(FUNCTIONS) >= len(STAGES)


@each_module
def test_a_face_imports_only_kfp_and_the_standard_library(module: ast.Module) -> None:
    imported = {alias.name for node in module.body if isinstance(node, ast.Import) for alias in node.names}
    imported |= {str(node.module) for node in module.body if isinstance(node, ast.ImportFrom)}
    roots = {name.partition(".")[0] for name in imported}
    assert roots <= sys.stdlib_module_names | {"kfp"}
    assert "__future__" not in roots  # annotations would become text, which KFP cannot read


@each_module
def test_a_face_holds_nothing_but_imports_and_components(module: ast.Module) -> None:
    docstring, *rest = module.body
    assert isinstance(docstring, ast.Expr)
    assert isinstance(docstring.value, ast.Constant)
    for node in rest:
        assert isinstance(node, ast.Import | ast.ImportFrom | ast.FunctionDef), ast.unparse(node)


@each_function
def test_a_face_is_a_component(function: ast.FunctionDef) -> None:
    decorators = [ast.unparse(decorator).partition("(")[0] for decorator in function.decorator_list]
    assert decorators == ["dsl.component"]


@each_function
def test_parameters_are_of_kinds_that_survive_kfp(function: ast.FunctionDef) -> None:
    parameters = [*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs]
    assert function.args.vararg is None
    assert function.args.kwarg is None
    for parameter in parameters:
        annotation = ast.unparse(parameter.annotation) if parameter.annotation else ""
        assert ANNOTATION.fullmatch(annotation), f"{parameter.arg}: {annotation}"


@each_function
def test_a_body_only_decodes_calls_and_notes(function: ast.FunctionDef) -> None:
    statements = sum(
        isinstance(node, ast.stmt) for statement in function.body for node in ast.walk(statement)
    )
    docstring = 1 if ast.get_docstring(function) else 0
    assert statements - docstring <= MOST_STATEMENTS


@each_function
def test_every_parameter_is_described_for_the_run_page(function: ast.FunctionDef) -> None:
    documentation = ast.get_docstring(function) or ""
    _, _, arguments = documentation.partition("\nArgs:\n")
    described = re.findall(r"^    (\w+): \S", arguments, flags=re.MULTILINE)
    assert described == [parameter.arg for parameter in function.args.args]
