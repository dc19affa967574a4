"""A page taken apart, so that tests can ask what it means."""

import base64
import html.parser
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from optduel.components.report import render
from optduel.components.report.render import Report

VOID = {"meta", "img", "br"}


@dataclass
class Page(html.parser.HTMLParser):
    """A page taken apart; refuses tags that are not closed in order."""

    html: str
    elements: list[tuple[str, dict[str, str | None]]] = field(default_factory=list)
    texts: list[tuple[str, str]] = field(default_factory=list)
    tables: list[list[list[str]]] = field(default_factory=list)
    _open: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.feed(self.html)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attributes)))
        if tag not in VOID:
            self._open.append(tag)
        if tag == "table":
            self.tables.append([])
        if tag == "tr":
            self.tables[-1].append([])
        if tag in ("td", "th"):
            self.tables[-1][-1].append("")

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attributes)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append((self._open[-1] if self._open else "", data))
        if "td" in self._open or "th" in self._open:
            self.tables[-1][-1][-1] += data

    @property
    def text(self) -> str:
        return " ".join(" ".join(text for tag, text in self.texts if tag != "style").split())

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]

    def table(self, heading: str) -> list[list[str]]:
        """The rows of the first table with such a cell in its first two rows."""
        return next(table for table in self.tables if heading in [cell for row in table[:2] for cell in row])

    def assert_is_self_contained(self) -> None:
        assert self.html.startswith("<!DOCTYPE html>")
        (policy,) = [
            meta["content"]
            for meta in self.all("meta")
            if meta.get("http-equiv") == "Content-Security-Policy"
        ]
        assert policy == "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
        tags = {tag for tag, _ in self.elements}
        assert tags.isdisjoint(
            {"script", "link", "iframe", "object", "embed", "form", "base", "a", "foreignobject"}
        )
        for tag, attributes in self.elements:
            for name, value in attributes.items():
                assert not name.startswith("on"), (tag, name)
                if tag == "img" and name == "src":
                    continue
                assert not re.search(r"(https?:)?//|javascript:|data:image", value or ""), (tag, name, value)
        styles = "".join(text for tag, text in self.texts if tag == "style")
        assert not re.search(r"@import|url\(|//", styles)
        assert len(styles) > 1000

    def assert_images_are_drawings_with_alternatives(self) -> None:
        images = self.all("img")
        assert len(images) >= 5
        for image in images:
            kind, _, content = (image["src"] or "").partition(",")
            assert kind == "data:image/svg+xml;base64"
            assert ElementTree.fromstring(base64.b64decode(content)).tag == "{http://www.w3.org/2000/svg}svg"
            assert len(image["alt"] or "") > 10
        for drawing in self.all("svg"):
            assert drawing["role"] == "img"
            assert drawing["aria-label"]


@pytest.fixture(scope="session")
def parse_page() -> Callable[[str], Page]:
    return Page


@pytest.fixture(scope="session")
def page(report: Report) -> Page:
    return Page(report.html)


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """For a page of which only the text is looked at: most of its time goes into the files of its figures."""
    kinds = ("png", "svg")
    monkeypatch.setattr(render, "figure_files", lambda name, _: {f"{name}.{kind}": b"" for kind in kinds})
