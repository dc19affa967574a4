"""From YAML text and assignments to an Experiment or a Deployment, or to all mistakes at once, with paths."""

import difflib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any, Literal, NamedTuple, TypeVar, get_args, get_origin

import yaml
from pydantic import BaseModel, TypeAdapter, ValidationError
from yaml.composer import ComposerError

from optduel.components.core import ExperimentError
from optduel.components.decoding import parse_json
from optduel.components.redaction import showable
from optduel.components.settings.deployment import Deployment
from optduel.components.settings.experiment import Data, Experiment

Value = TypeVar("Value")

_SHOWN_CHARACTERS = 80


class _Option(NamedTuple):
    """The option that assignments come from, for messages."""

    flag: str
    example: str


_SET = _Option("--set", "training.epochs=3")
_DEPLOY = _Option("--deploy", "train.memory=16Gi")


def parse_experiment(text: str, where: str, assignments: Iterable[str] = ()) -> Experiment:
    """Validates YAML text, with the assignments applied, as an Experiment.

    Args:
        text: a YAML mapping with the experiment's fields.
        where: names the text in messages, for example its file name.
        assignments: "path=value" each; the value is YAML, list elements are named by `name` or position.

    Raises:
        ExperimentError: not YAML, or one line for every rule that is broken.

    Example:
        >>> parse_experiment("[]", "mine.yaml")
        Traceback (most recent call last):
        ...
        optduel.components.core.errors.ExperimentError: mine.yaml = []: must hold the fields of an experiment
    """
    authored = load_fields(text, where, "an experiment")
    _assign_all(authored, assignments, _SET)
    return validate(Experiment, authored, where)


def parse_deployment(
    layers: Sequence[dict[str, Any]], where: str, assignments: Iterable[str] = ()
) -> Deployment:
    """Validates fields, with the assignments applied, as a Deployment.

    Args:
        layers: the fields of one deployment, and before it those of the one that it builds on, and so forth.
            Of two layers the later one wins, field by field; a list is taken whole.
        where: names them in messages, for example by the file name of the last.
        assignments: as `parse_experiment` takes them.

    Raises:
        ExperimentError: one line for every rule that is broken.
    """
    authored: dict[str, Any] = {}
    for layer in layers:
        authored = _overlaid(authored, layer)
    _assign_all(authored, assignments, _DEPLOY)
    return validate(Deployment, authored, where)


def parse_data(authored: dict[str, Any], where: str, assignments: Iterable[str] = ()) -> Data:
    """Validates fields, with the assignments applied, as an experiment's data section.

    Args:
        where: names them in messages.

    Raises:
        ExperimentError: one line for every rule that is broken.
    """
    _assign_all(authored, assignments, _Option("--set", "near_duplicates=move"))
    return validate(Data, authored, where)


def _overlaid(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    both = {
        name: _overlaid(below[name], value)
        for name, value in above.items()
        if isinstance(value, dict) and isinstance(below.get(name), dict)
    }
    return {**below, **above, **both}


def load_fields(text: str, where: str, what: str) -> dict[str, Any]:
    """The mapping that YAML text holds.

    Args:
        where: names the text in messages.
        what: whose fields they are to be, in words.

    Raises:
        ExperimentError: not YAML, or no mapping.
    """
    authored = load_yaml(text, where)
    if not isinstance(authored, dict):
        raise ExperimentError(f"{where} = {_shown(authored)}: must hold the fields of {what}")
    return authored


def _assign_all(authored: dict[str, Any], assignments: Iterable[str], option: _Option) -> None:
    for assignment in assignments:
        _assign(authored, assignment, option)


def json_schema() -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of an experiment file, for editors, without the rules across fields."""
    dialect = "https://json-schema.org/draft/2020-12/schema"
    return {"$schema": dialect, **Experiment.model_json_schema()}


def validate(expected: type[Value], authored: Any, where: str) -> Value:
    """Validates `authored` as `expected`, a model or a union of models.

    Raises:
        ExperimentError: all problems, a line each, as "path = value: rule".
    """
    try:
        return TypeAdapter(expected).validate_python(authored)
    except ValidationError as error:
        details = error.errors()
        problems = [
            _describe(problem, expected, authored) for problem in details if not _is_echo(problem, details)
        ]
        count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
        raise ExperimentError("\n".join([f"{where}: {count}", *problems])) from error


def decode(expected: type[Value], content: str | bytes, where: str) -> Value:
    """Reads a value back from JSON: a section, as components receive it, or the content of a document.

    Raises:
        ExperimentError: the content is not JSON, or breaks a rule of what is expected.
    """
    try:
        authored = parse_json(content)
    except ValueError as error:
        raise ExperimentError(f"{where}: {error}") from error
    return validate(expected, authored, where)


def _refuse_half_characters(authored: Any, where: str) -> None:
    r"""Escapes such as "\ud800" make text that no file and no name can hold."""
    try:
        json.dumps(authored, ensure_ascii=False, default=str).encode()
    except UnicodeEncodeError as error:
        raise ExperimentError(
            f"{where}: {error.object[error.start]!a} is half a character; no text"
        ) from error
    except (RecursionError, TypeError) as error:
        raise ExperimentError(f"{where}: nested too deeply, or with keys that are no text") from error


def _assign(authored: dict[str, Any], assignment: str, option: _Option) -> None:
    path, equals, text = assignment.partition("=")
    where = f"{option.flag} {_shortened(assignment)}"
    if not equals or not path:
        raise ExperimentError(f"{where}: write path=value, for example {option.example}")
    value = load_yaml(text, where)
    *parents, last = path.split(".")
    place: Any = authored
    for depth, part in enumerate(parents):
        key = _key_in(place, part, path, depth, option)
        place = place.setdefault(key, {}) if isinstance(place, dict) else place[key]
    place[_key_in(place, last, path, len(parents), option)] = value


def _key_in(place: Any, part: str, path: str, depth: int, option: _Option) -> str | int:
    """What `part`, the element of the path at this depth, selects in the value that the path has led to."""
    if isinstance(place, dict):
        return part
    if isinstance(place, list):
        return _position(place, part, path, option)
    outer = ".".join(path.split(".")[:depth])
    raise ExperimentError(
        f"{option.flag} {path}: {outer} = {_shown(place)} is a single value and has no {part}; "
        f"set {outer} itself"
    )


def _position(elements: Sequence[Any], part: str, path: str, option: _Option) -> int:
    names = [element.get("name") for element in elements if isinstance(element, Mapping)]
    if part in names:
        return names.index(part)
    if part.isdecimal() and len(part) < 10 and int(part) < len(elements):
        return int(part)
    known = ", ".join(map(str, names)) or ", ".join(map(str, range(len(elements)))) or "none"
    raise ExperimentError(f"{option.flag} {path}: no element {part!r}; there are {_shortened(known)}")


def _is_echo(problem: Any, problems: Sequence[Any]) -> bool:
    """Whether pydantic calls a list too short only because it dropped elements with problems of their own."""
    depth = len(problem["loc"])
    return problem["type"] == "too_short" and any(
        len(other["loc"]) > depth and other["loc"][:depth] == problem["loc"] for other in problems
    )


def _describe(problem: Any, expected: Any, authored: Any) -> str:
    """One line: the path as the author wrote it, the value, the rule."""
    models, written = _follow(expected, authored, problem["loc"])
    path = _shortened(".".join(written)) or "the whole"
    context = problem.get("ctx", {})
    match problem["type"]:
        case "extra_forbidden":
            parents, _ = _follow(expected, authored, problem["loc"][:-1])
            fields = [name for model in parents for name in model.model_fields]
            return (
                f"{path}: no such field; {_closest(written[-1], fields) or 'there are ' + ', '.join(fields)}"
            )
        case "missing":
            return f"{path}: is required"
        case "union_tag_not_found":
            tag = context["discriminator"].strip("'")
            kinds = [str(kind) for model in models for kind in get_args(model.model_fields[tag].annotation)]
            return f"{path}.{tag}: is required; one of {', '.join(kinds)}"
        case "union_tag_invalid":
            tag = context["discriminator"].strip("'")
            kinds = _unquoted(context["expected_tags"])
            return _not_one_of(f"{path}.{tag}", context["tag"], kinds)
        case "literal_error":
            return _not_one_of(path, problem["input"], _unquoted(context["expected"].replace(" or ", ", ")))
        case "tuple_type":
            return f"{path} = {_shown(problem['input'])}: must be a list"
        case "too_short":
            return f"{path} = {_shown(problem['input'])}: must have at least {context['min_length']} elements"
        case "model_type" | "model_attributes_type":
            fields = list(dict.fromkeys(name for model in models for name in model.model_fields))
            return f"{path} = {_shown(problem['input'])}: must be a mapping of fields: {', '.join(fields)}"
        case "value_error":
            return f"{path}: {context['error']}" if written else str(context["error"])
        case _:
            rule = problem["msg"].removeprefix("Input ").replace("should", "must", 1)
            return f"{path} = {_shown(problem['input'])}: {rule}"


def _not_one_of(path: str, value: Any, known: list[str]) -> str:
    remedy = _closest(str(value), known)
    return f"{path} = {_shown(value)}: must be one of {', '.join(known)}" + (f"; {remedy}" if remedy else "")


def _closest(word: str, known: list[str]) -> str:
    close = difflib.get_close_matches(word[:_SHOWN_CHARACTERS], known, n=1)
    return f"did you mean {close[0]!r}?" if close else ""


def _unquoted(listed: str) -> list[str]:
    return [word.strip(" '") for word in listed.split(",")]


def _shown(value: Any) -> str:
    try:
        return _shortened(repr(value))
    except RecursionError:
        return "a value that is nested too deeply"


def _shortened(text: str) -> str:
    text = showable(text)  # before it is cut, for half a credential is not known as one
    return text if len(text) <= _SHOWN_CHARACTERS else text[: _SHOWN_CHARACTERS - 3] + "..."


def _follow(
    expected: Any, authored: Any, location: Sequence[int | str]
) -> tuple[list[type[BaseModel]], list[str]]:
    """The models that may stand at a pydantic location, and the location as the author wrote it.

    pydantic puts the tag of a discriminated union into the location, which the author never wrote;
    a list element is shown by its `name` when it has one.
    """
    here = _models(expected)
    written: list[str] = []
    is_key = False
    for part in location:
        if is_key:
            is_key = False
            written.append(str(part))
            authored = authored.get(part) if isinstance(authored, Mapping) else None
            continue
        tagged = [model for model in here if part in _tags(model)]
        if isinstance(part, str) and tagged and len(here) > 1:
            here = tagged
            continue
        if isinstance(part, int):
            authored = authored[part] if isinstance(authored, list) and part < len(authored) else None
            name = authored.get("name") if isinstance(authored, Mapping) else None
            written.append(str(name or part))
            continue
        written.append(part)
        authored = authored.get(part) if isinstance(authored, Mapping) else None
        annotations = [model.model_fields[part].annotation for model in here if part in model.model_fields]
        here = [found for annotation in annotations for found in _models(annotation)]
        is_key = any(get_origin(annotation) is dict for annotation in annotations)
    return here, written


def _models(annotation: Any) -> list[type[BaseModel]]:
    """Every model that an annotation mentions."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    arguments = get_args(annotation)
    if get_origin(annotation) is Annotated:
        arguments = arguments[:1]
    return [model for argument in arguments for model in _models(argument)]


def _tags(model: type[BaseModel]) -> list[Any]:
    """The values of a model's literal fields: what a discriminator may put into a location."""
    annotations = [field.annotation for field in model.model_fields.values()]
    return [tag for kind in annotations if get_origin(kind) is Literal for tag in get_args(kind)]


MAX_CHARACTERS = 1 << 16
"""Fifty times the longest shipped experiment; PyYAML reads as much in about half a second."""


def load_yaml(text: str, where: str) -> Any:
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
        value = yaml.load(text, _PlainLoader)  # noqa: S506  # a SafeLoader that knows even less
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        place = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        raise ExperimentError(f"{where}: not YAML: {place}{error.problem}") from error
    except (yaml.YAMLError, ValueError) as error:  # a character or a number that YAML does not know
        raise ExperimentError(f"{where}: not YAML: {' '.join(str(error).split())}") from error
    except RecursionError as error:
        raise ExperimentError(f"{where}: not an experiment: nested too deeply") from error
    _refuse_half_characters(value, where)
    return value


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
