"""The command that looks at a data set before anything is trained on it."""

import argparse
from pathlib import Path
from typing import Any

from optduel.components.core import ExperimentError
from optduel.components.settings import TABLE_SUFFIXES, Data, parse_data
from optduel.components.storage import local_path, publish
from optduel.pipeline.cli.arguments import print_json

_IMAGE_SIZE = [64, 64]
"""At which images are compared, where nobody says otherwise."""


def add_data_arguments(parser: argparse.ArgumentParser, root: str) -> None:
    """Adds the arguments of `optduel data`."""
    parser.add_argument(
        "source",
        metavar="SOURCE",
        help="a folder, a tar or zip archive, or a table (.csv, .jsonl, .parquet), as a path or a URI; "
        "tfds:NAME; a shipped experiment or the path of a .yaml file, whose data it is; or fields in braces, "
        "such as '{kind: table, path: labels.csv, label: species}'",
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="PATH=VALUE",
        dest="assignments",
        help="set a field of the data section, for example split.test=0.2 or source.encoding=cp1252",
    )
    parser.add_argument(
        "--page", default="data.html", metavar="FILE", help="the card that is written (default: %(default)s)"
    )
    parser.add_argument(
        "--root",
        default=root,
        metavar="DIR",
        help="where TensorFlow Datasets keeps its files (default: %(default)s)",
    )
    parser.add_argument("--json", action="store_true", help="print the answer as JSON")


def look(options: argparse.Namespace) -> None:
    """Looks at a data set; prints the answer in a line, and writes the card."""
    from optduel.components.prepare.look import look_at

    data = _data_of(options.source, options.assignments)
    seen = look_at(data, local_path(options.root).absolute())
    page = local_path(options.page).absolute()
    publish(page, seen.page.encode())
    if options.json:
        answer: dict[str, Any] = {
            "sentence": seen.sentence,
            "usable": seen.refusal is None,
            "refusal": seen.refusal,
        }
        answer |= {
            "classes": list(seen.manifest.classes),
            "cautions": seen.cautions,
            "facts": dict(seen.facts),
        }
        splits = seen.manifest.splits.items()
        answer["splits"] = {name: list(split.class_counts) for name, split in splits}
        answer["left_out"] = [entry.model_dump() for entry in seen.manifest.skipped]
        answer["duplicates"] = seen.manifest.duplicates.model_dump(mode="json")
        answer["resemblances"] = seen.manifest.resemblances.model_dump(mode="json")
        print_json(answer | {"page": str(page), "address": page.as_uri()})
        return
    print(seen.sentence)
    for caution in seen.cautions:
        print(f"caution: {caution}")
    print(f"page: {page}\naddress: {page.as_uri()}")


def _data_of(source: str, assignments: list[str]) -> Data:
    """The data section that SOURCE stands for.

    Raises:
        ExperimentError: it stands for none, or the section breaks a rule.
    """
    from optduel.components.settings import load_fields
    from optduel.pipeline.cli.shipped import load_experiment, shipped_names

    if source in shipped_names() or source.endswith((".yaml", ".yml")):
        return load_experiment(source, [f"data.{assignment}" for assignment in assignments]).data
    fields: dict[str, Any]
    if source.startswith("{"):
        fields = load_fields(source, "SOURCE", "a source of images")
    elif source.startswith("tfds:"):
        fields = {"kind": "tfds", "name": source.removeprefix("tfds:")}
    elif Path(source).suffix.lower() in TABLE_SUFFIXES:
        fields = {"kind": "table", "path": source}
    elif source:
        fields = {"kind": "folder", "path": source}
    else:
        raise ExperimentError("SOURCE: is empty; name a folder, an archive or a table")
    return parse_data({"source": fields, "image_size": _IMAGE_SIZE}, f"SOURCE {source}", assignments)
