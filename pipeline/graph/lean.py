"""Makes tasks small: Argo repeats a task's source and interface six times in its record of a run.

That record has a limit, and what is only for readers of this repository is no part of it.
"""

import ast
from typing import Any


def lean(component: Any) -> Any:
    """A component without what only explains it: docstring, comments, descriptions of its inputs.

    Args:
        component: of `kfp.dsl.component`; it is changed in place.

    Returns:
        The component.
    """
    specification = component.component_spec
    container = specification.implementation.container
    *command, source = container.command
    container.command = [*command, _code(source)]
    specification.description = None
    for one in (*(specification.inputs or {}).values(), *(specification.outputs or {}).values()):
        one.description = None
    return component


def _code(source: str) -> str:
    """Python that does the same in fewer characters."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef) and ast.get_docstring(node) is not None:
            node.body = node.body[1:]
    return ast.unparse(tree)
