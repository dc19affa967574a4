"""Reads the project's Markdown as its readers do, and finds what in it is not true."""

import argparse
import contextlib
import functools
import io
import os
import re
import shlex
import urllib.parse
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token

from optduel.components.core import OptduelError
from optduel.components.results import IndexedArm, Row, TrialHistory
from optduel.pipeline.cli.arguments import deployment_of
from optduel.pipeline.cli.command_line import build_parser
from optduel.pipeline.cli.shipped import load_experiment

REPOSITORY = Path(__file__).parents[2]

_MARKDOWN = MarkdownIt("commonmark").enable("table")

_SOME_IMAGE = "registry/optduel:1"
_OPTIONS_ALONE = f"optduel submit digits --image {_SOME_IMAGE} "
"""What a line of a guide belongs to that shows options without their command."""

_ROOMS = ("components/", "images/", "manifests/", "pipeline/", "tests/", ".ci/")


@dataclass(frozen=True)
class Document:
    """A Markdown file; its text may be another one than what lies there."""

    path: Path
    text: str

    @functools.cached_property
    def tokens(self) -> list[Token]:
        """Every element, those within lines included."""
        return [one for block in _MARKDOWN.parse(self.text) for one in (block, *(block.children or ()))]

    @property
    def anchors(self) -> set[str]:
        """The anchors of the headings, as GitHub makes them."""
        found: dict[str, int] = {}
        for opening, inline in zip(self.tokens, self.tokens[1:], strict=False):
            if opening.type == "heading_open":
                words = "".join(child.content for child in inline.children or ())
                anchor = re.sub(r"[^\w\- ]", "", words.lower()).replace(" ", "-")
                found[anchor] = found.get(anchor, -1) + 1
        return {f"{anchor}-{n}" if n else anchor for anchor, last in found.items() for n in range(last + 1)}

    @property
    def blocks(self) -> list[str]:
        """The code blocks; a line that goes on in the next is one."""
        code = [one.content for one in self.tokens if one.type in ("code_block", "fence")]
        return [re.sub(r"\\\n\s*", "", text) for text in code]

    @property
    def spans(self) -> list[str]:
        """Code within sentences."""
        return [one.content for one in self.tokens if one.type == "code_inline"]

    def column(self, heading: str, number: int = 0) -> list[str]:
        """The cells of a table's column, as text; the table is the one whose column has this heading."""
        rows: list[list[str]] = []
        tables: list[list[list[str]]] = []
        for opening, inline in zip(self.tokens, self.tokens[1:], strict=False):
            if opening.type == "table_open":
                rows = []
                tables.append(rows)
            elif opening.type == "tr_open":
                rows.append([])
            elif opening.type in ("td_open", "th_open"):
                rows[-1].append("".join(child.content for child in inline.children or ()))
        (table,) = [rows for rows in tables if rows[0][0] == heading]
        return [row[number] for row in table[1:]]


def documents(paths: list[Path]) -> list[Document]:
    """The Markdown files among `paths`."""
    return [Document(path, path.read_text(encoding="utf-8")) for path in paths if path.suffix == ".md"]


def broken_links(document: Document) -> Iterator[str]:
    """Links to files and headings that are not there; addresses elsewhere are not looked at."""
    for one in document.tokens:
        target = str(one.attrGet("href") or one.attrGet("src") or "")
        address = urllib.parse.urlsplit(target)
        if not target or address.scheme:
            continue
        path = (document.path.parent / urllib.parse.unquote(address.path)) if address.path else document.path
        if not path.exists():
            yield f"{target}: no such file"
        elif address.fragment:
            text = document.text if path == document.path else path.read_text(encoding="utf-8")
            if address.fragment not in Document(path, text).anchors:
                yield f"{target}: no such heading"


def missing_paths(document: Document) -> Iterator[str]:
    """Paths of this repository that a sentence names and that are not there."""
    for span in document.spans:
        if span.startswith(_ROOMS) and not re.search(r"[<>*\s]|\.\.\.", span):
            path = REPOSITORY / span.partition("::")[0]
            if not path.exists():
                yield f"{span}: no such path"


def unknown_variables(document: Document, sources: str) -> Iterator[str]:
    """Environment variables of optduel that no code knows."""
    for name in sorted(set(re.findall(r"OPTDUEL_[A-Z_]*[A-Z]", document.text))):
        if not re.search(rf"{name}\b", sources):
            yield f"{name}: no such variable"


def wrong_commands(document: Document) -> Iterator[str]:
    """Commands that would be refused, as far as that can be told without running them."""
    for block in document.blocks:
        for words in _commands(block):
            if problem := _problem(words):
                yield f"{shlex.join(words)}: {problem}"
    for span in document.spans:
        if problem := _problem_of_span(span):
            yield f"{span}: {problem}"


def unknown_columns(document: Document) -> Iterator[str]:
    """Columns of queries that the tables of a run do not have."""
    for columns, place in re.findall(r"^SELECT (.+) FROM '(\S+)'", "\n".join(document.blocks), re.MULTILINE):
        models = (IndexedArm,) if "index/" in place else (TrialHistory, Row)
        known = {field for model in models for field in model.model_fields}
        for column in columns.split(", "):
            if column not in known:
                yield f"{column}: no such column in {place}"


def kustomize_folders(document: Document) -> set[str]:
    """The folders of this repository that a guide applies."""
    found = re.findall(r"kubectl apply [^\n#]*-k (manifests/\S+)", "\n".join(document.blocks))
    return {folder.rstrip("`") for folder in found}


def _commands(block: str) -> Iterator[list[str]]:
    for line in block.splitlines():
        line = line.strip().removeprefix("$ ")
        if re.match("--[a-z]", line):
            line = _OPTIONS_ALONE + line
        with contextlib.suppress(ValueError):  # a line of output, with an apostrophe
            lexer = shlex.shlex(line, posix=True, punctuation_chars="&>;|")
            lexer.commenters = "#"
            lexer.wordchars += "$:@[]{},%!"
            words: list[str] = []
            for word in lexer:
                if set(word) <= set("&>;|"):
                    break
                words.append(word)
            while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
                del words[0]
            if words and (words[0] in _CHECKS or words[0].startswith(_ROOMS)):
                yield words


def _problem(words: list[str]) -> str | None:
    if words[0] not in _CHECKS:
        return None if os.access(REPOSITORY / words[0], os.X_OK) else "no such program"
    return _CHECKS[words[0]](words[1:])


def _problem_of_span(span: str) -> str | None:
    """A command within a sentence may lack arguments; what it names has to exist."""
    words = shlex.split(span) if span.startswith(("make ", "optduel ")) else []
    if words[:1] == ["make"]:
        return _make(words[1:])
    if words[:1] != ["optduel"]:
        return None
    parser: argparse.ArgumentParser = build_parser()
    for word in words[1:]:
        commands = next((one for one in parser._actions if isinstance(one.choices, dict)), None)
        if commands is not None and not word.startswith("-"):
            if word not in commands.choices:
                return f"no command {word}"
            parser = commands.choices[word]
        elif word.startswith("--") and word.partition("=")[0] not in parser._option_string_actions:
            return f"no option {word}"
    return None


def _optduel(words: list[str]) -> str | None:
    # An ellipsis stands for the value of an option, or for options that are left out.
    words = [
        word for before, word in zip(["", *words], words, strict=False) if word != "..." or before[:2] == "--"
    ]
    refusal = io.StringIO()
    try:
        with contextlib.redirect_stderr(refusal), contextlib.redirect_stdout(io.StringIO()):
            options = build_parser().parse_args(words)
    except SystemExit as ended:
        return refusal.getvalue().strip().splitlines()[-1] if ended.code else None
    try:
        if experiment := getattr(options, "experiment", None):
            # A reader's own file is, in these guides, a copy of a shipped experiment.
            load_experiment("flowers" if experiment == "mine.yaml" else experiment, options.assignments)
        if hasattr(options, "deploy"):
            if (
                not options.image
                or "..." in options.image
                or "$" in options.image
                or "DIGEST" in options.image
            ):
                options.image = _SOME_IMAGE
            deployment_of(options)
    except OptduelError as error:
        return str(error)
    return None


def _make(words: list[str]) -> str | None:
    makefile = (REPOSITORY / "Makefile").read_text(encoding="utf-8")
    for word in words:
        name, is_variable, value = word.partition("=")
        if is_variable and not re.search(rf"^{name} \??:?=", makefile, re.MULTILINE):
            return f"no variable {name}"
        if not is_variable and not re.search(rf"^\.PHONY: {re.escape(word)}$", makefile, re.MULTILINE):
            return f"no target {word}"
        if name == "TEST_FLAGS" and value.startswith("tests/") and not (REPOSITORY / value).exists():
            return f"no path {value}"
        if name == "BENCH_FLAGS" and (problem := _benchmark(shlex.split(value))):
            return problem
    return None


def _benchmark(words: list[str]) -> str | None:
    from tests.benchmarks.__main__ import build_parser as build_benchmark_parser

    refusal = io.StringIO()
    try:
        with contextlib.redirect_stderr(refusal), contextlib.redirect_stdout(io.StringIO()):
            build_benchmark_parser().parse_args(words)
    except SystemExit as ended:
        return refusal.getvalue().strip().splitlines()[-1] if ended.code else None
    return None


def _kubectl(words: list[str]) -> str | None:
    for option, value in zip(words, words[1:], strict=False):
        if option in ("-k", "-f", "--patch-file") and value.startswith("manifests/"):
            path = REPOSITORY / value
            if not (path / "kustomization.yaml" if option == "-k" else path).is_file():
                return f"no {value}"
    return None


def _python(words: list[str]) -> str | None:
    if words[:1] == ["-m"] and words[1].startswith("tests."):
        path = REPOSITORY / words[1].replace(".", "/")
        if not (path.with_suffix(".py").exists() or path.is_dir()):
            return f"no module {words[1]}"
    return None


_CHECKS: dict[str, Callable[[list[str]], str | None]] = {
    "optduel": _optduel,
    "make": _make,
    "kubectl": _kubectl,
    "python": _python,
}
