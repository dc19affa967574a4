"""Makes `python -m optduel.pipeline.cli` the command, too."""

from optduel.pipeline.cli.command_line import entry

entry()
