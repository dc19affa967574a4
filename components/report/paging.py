"""How pages are made: templates that escape all that they show, and figures within the page."""

import base64
from pathlib import Path

import jinja2

from optduel.components.records import DESCRIPTION_TEMPLATES
from optduel.components.report import numbers


def page_environment() -> jinja2.Environment:
    """The templates, with the filters that write numbers."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader([Path(__file__).parent / "templates", DESCRIPTION_TEMPLATES]),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "percentage": numbers.percentage,
        "decimal": numbers.decimal,
        "significant": numbers.significant,
        "whole": numbers.whole,
    }
    return environment


def data_uri(svg: bytes) -> str:
    """The figure as an address that holds it."""
    return "data:image/svg+xml;base64," + base64.b64encode(svg).decode()
