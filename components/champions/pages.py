"""Renders the pages about a champion: each loads nothing and runs no script."""

from pathlib import Path

import jinja2

_TEMPLATES = Path(__file__).parent / "templates"


def render_page(template: Path, **values: object) -> str:
    """Renders a template, which extends `frame.html`; what it is given is text, never HTML.

    Args:
        template: its file.
        values: by name.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader([template.parent, _TEMPLATES]),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template.name).render(**values)
