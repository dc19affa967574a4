"""Reads the part of YAML that a settings file needs: mappings, lists and single values, written out in full.

Refused are aliases, which let a few lines expand to gigabytes and make two places one, tags, which name
Python types, keys that occur twice, of which all but one would be lost, and texts too long or too deep.
"""

import re
from typing import Any

import yaml
from yaml.composer import ComposerError

from optduel.components.core.errors import ExperimentError

MAX_CHARACTERS = 1 << 16
"""Fifty times the longest shipped experiment; PyYAML reads as much in about half a second."""


def load(text: str, where: str) -> Any:
    """The value of one YAML document.

    Args:
        text: the document.
        where: names the text in messages.

    Raises:
        ExperimentError: the text is not such a document; names line and column where they are known.
    """
    if len(text) > MAX_CHARACTERS:
        raise ExperimentError(f"{where}: {len(text):,} characters long: the limit is {MAX_CHARACTERS:,}")
    try:
        return yaml.load(text, _PlainLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        place = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        raise ExperimentError(f"{where}: not YAML: {place}{error.problem}") from error
    except (yaml.YAMLError, ValueError) as error:  # a character or a number that YAML does not know
        raise ExperimentError(f"{where}: not YAML: {' '.join(str(error).split())}") from error
    except RecursionError as error:
        raise ExperimentError(f"{where}: not an experiment: nested too deeply") from error


# Numbers and truth values as YAML 1.2 has them. PyYAML follows 1.1, where 1:30 is 90, 010 is 8 and no is
# false; it also knows dates, which no setting is.
_SCALARS = {
    "bool": "true|True|TRUE|false|False|FALSE",
    "int": "[-+]?(?:0|[1-9][0-9]*)",
    "float": r"[-+]?(?:\.[0-9]+|[0-9]+\.[0-9]*)(?:[eE][-+]?[0-9]+)?|[-+]?[0-9]+[eE][-+]?[0-9]+"
    r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
    "null": "~|null|Null|NULL|",
}


class _PlainLoader(yaml.SafeLoader):
    yaml_implicit_resolvers = {
        None: [
            (f"tag:yaml.org,2002:{kind}", re.compile(f"(?:{pattern})$")) for kind, pattern in _SCALARS.items()
        ]
    }

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        event: Any = self.peek_event()  # type: ignore[no-untyped-call]  # its stub has no types
        mark = event.start_mark
        if isinstance(event, yaml.AliasEvent):
            raise ComposerError(None, None, f"the alias *{event.anchor} is not supported; write it out", mark)
        if getattr(event, "tag", None) is not None:
            raise ComposerError(None, None, f"the tag {event.tag} is not supported", mark)
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        known: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value in known:
                raise ComposerError(None, None, f"{key.value} occurs twice", key.start_mark)
            known.add(str(key.value))
        return super().construct_mapping(node, deep)
