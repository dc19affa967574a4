"""The one guarded way to read JSON back, whoever wrote it: a server, another process, or somebody by hand."""

from optduel.components.decoding.parsing import parse_json, parse_object

__all__ = ["parse_json", "parse_object"]
