"""The command line: `optduel COMMAND`, or `python -m optduel.pipeline.cli COMMAND`."""

from optduel.pipeline.cli.command_line import entry

__all__ = ["entry"]
