"""The command line. The answer goes to standard output, the narration to standard error.

Importing this module loads neither KFP nor TensorFlow: each command imports what it needs.
"""

import argparse
import os
import shlex
import signal
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from optduel.components.core import ExperimentError, OptduelError, StorageError
from optduel.components.results import code_version
from optduel.components.settings import Experiment
from optduel.components.storage import is_remote, join, kind_of, local_path, resolved
from optduel.pipeline.cli.arguments import (
    access_of,
    add_access_arguments,
    add_deployment_arguments,
    add_experiment_arguments,
    deployment_of,
    experiment_of,
    print_json,
    refuse_bad_start,
    tell_cautions,
)
from optduel.pipeline.cli.champion_commands import add_champion_commands
from optduel.pipeline.cli.cluster_commands import add_cluster_commands
from optduel.pipeline.cli.data_commands import add_data_arguments, look
from optduel.pipeline.cli.schedule_commands import add_schedule_commands
from optduel.pipeline.local.interrupts import Interrupted

if TYPE_CHECKING:
    from optduel.components.settings import Experiment

Command = Callable[[argparse.Namespace], int | None]
"""Runs one command; returns the exit code where it is not 0."""

DEFAULT_ROOT = "optduel-runs"

MOST_EXAMPLES = 100_000_000
"""Seven times ImageNet-21k; the decay is summed step by step."""

_DESCRIPTION = """\
Tells on your own images whether SGD + momentum + L2 or AdamW trains the better classifier,
by how much, and whether the difference is real.
"""

_EXAMPLES = """\
examples:
  optduel run digits                                  the quick start: six paired seeds, no network
  optduel run digits --set training.epochs=3          any field of an experiment can be set
  optduel run flowers --set 'data.source={kind: folder, path: photos}'
  optduel data photos                                 what is in this folder of images?
  optduel check mine.yaml                             is this experiment sound?
  optduel doctor                                      is the cluster ready?
  optduel submit digits --image registry/optduel:1    run it on Kubeflow Pipelines

exit codes: 0 done; 1 the run failed; 2 the request is wrong, and the message says where and what to do;
130 stopped by Ctrl-C; 143 stopped by SIGTERM
"""


def entry() -> None:
    """The console script. Ends with 141, as if by SIGPIPE, where nobody reads its answer any more."""
    _prepare_streams()
    try:
        code = main(sys.argv[1:])
        sys.stdout.flush()
    except BrokenPipeError:
        # Or Python would try once more to write what is left, and complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 128 + signal.SIGPIPE
    sys.exit(code)


def _prepare_streams() -> None:
    """Lets every name be printed, whatever the encoding, and a closed stream be no other file's number."""
    for name in ("stdin", "stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            descriptor = os.open(os.devnull, os.O_RDWR)  # the lowest free number, which is the stream's
            setattr(sys, name, open(descriptor, "r" if name == "stdin" else "w"))  # noqa: SIM115
        elif name != "stdin":
            stream.reconfigure(errors="backslashreplace")


def main(arguments: Sequence[str]) -> int:
    """Runs one command.

    Returns:
        0 done, 1 the run failed, 2 the request is wrong, 128 + N stopped by signal N. Anything that is not an
        OptduelError is our bug and keeps its traceback.
    """
    options = build_parser().parse_args(arguments)
    try:
        return _execute(options)
    except OptduelError as error:
        print(f"optduel: error: {error}", file=sys.stderr)
        return error.cli_exit_code
    except Interrupted as error:
        print(f"optduel: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("optduel: stopped", file=sys.stderr)
        return 130


def _execute(options: argparse.Namespace) -> int:
    command: Command = options.command
    try:
        return command(options) or 0
    except ModuleNotFoundError as error:
        name = error.name or ""
        if name.partition(".")[0] in ("", "optduel"):
            raise
        raise ExperimentError(
            f"{name}: is not installed here, and this command needs it; run it where optduel is installed "
            "with all its dependencies (`make install`): an image holds only what tasks and workers need"
        ) from error


def build_parser() -> argparse.ArgumentParser:
    """All commands and their options; parsing loads no framework."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(
        "optduel", description=_DESCRIPTION, epilog=_EXAMPLES, formatter_class=raw
    )
    parser.add_argument("--version", action="version", version=f"optduel {code_version()}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    def add(command: Command | None, name: str, purpose: str, example: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(
            name, help=purpose, description=purpose, epilog=f"example:\n  {example}", formatter_class=raw
        )
        sub.set_defaults(command=command)
        return sub

    listing = add(_list, "list", "List the shipped experiments.", "optduel list")
    showing = add(
        _show, "show", "Show an experiment with all its fields.", "optduel show tutorial --examples 2936"
    )
    checking = add(
        _check, "check", "Check an experiment without running anything.", "optduel check mine.yaml"
    )
    looking = add(
        look,
        "data",
        "Look at a data set before anything is trained: classes, splits, formats, copies, what is odd.",
        "optduel data photos",
    )
    add_data_arguments(looking, DEFAULT_ROOT)
    running = add(_run, "run", "Run an experiment on this machine.", "optduel run digits --root ~/studies")
    compiling = add(
        _compile,
        "compile",
        "Write an experiment's pipeline as YAML for Kubeflow Pipelines.",
        "optduel compile digits --image registry/optduel:1 --output digits.yaml",
    )
    history = add(
        _history,
        "history",
        "Show what was measured while runs trained, and compare runs. Without RUN, list the finished runs.",
        "optduel history digits-20261123T194910Z digits-20261124T081512Z",
    )
    reporting = add(
        _report,
        "report",
        "Make the report of a finished run again, with the code of today.",
        "optduel report optduel-runs/runs/digits-...",
    )

    extending = add(
        _extend,
        "extend",
        "Go on with a study that has ended: more seeds for every arm, and another verdict.",
        "optduel extend optduel-runs/runs/digits-... --seeds 6",
    )

    add_cluster_commands(add)
    schedule = add(
        None,
        "schedule",
        "Run an experiment on Kubeflow Pipelines again and again.",
        "optduel schedule create digits --cron '0 0 6 * * 1' --image registry/optduel:1",
    )
    add_schedule_commands(schedule)

    add_champion_commands(add, DEFAULT_ROOT)

    for sub in (showing, checking, running, compiling):
        add_experiment_arguments(sub, is_required=sub is not showing)
    extending.add_argument("run", metavar="RUN", help="folder or URI of a run that has ended")
    extending.add_argument(
        "--seeds",
        type=int,
        required=True,
        metavar="N",
        help="how many seeds more for every arm, a multiple of 3: looks are declared in advance",
    )
    extending.add_argument(
        "--output",
        metavar="FILE",
        help="write the extended experiment there instead of running it, for `optduel submit FILE`",
    )
    for sub in (listing, showing, checking, running, extending, reporting):
        sub.add_argument("--json", action="store_true", help="print the answer as JSON")
    showing.add_argument(
        "--schema",
        action="store_true",
        help="print the JSON Schema of experiments, for an editor; needs no EXPERIMENT",
    )
    showing.add_argument(
        "--deployment",
        metavar="NAME",
        help="print a deployment with all its fields instead, as YAML or JSON; needs no EXPERIMENT",
    )
    showing.add_argument(
        "--examples",
        type=_examples,
        metavar="N",
        help="number of training examples; shows the decay in every convention",
    )
    running.add_argument(
        "--root",
        default=DEFAULT_ROOT,
        metavar="DIR",
        help="where records and runs go: a folder, or a URI gs://, s3://, minio:// (default: %(default)s)",
    )
    history.add_argument(
        "runs",
        nargs="*",
        metavar="RUN",
        help="a run's name or folder, or a history file (Parquet, JSON lines); each is compared "
        "with the first; with --host runs of Kubeflow Pipelines are found by name, too",
    )
    history.add_argument(
        "--root",
        default=DEFAULT_ROOT,
        metavar="DIR",
        help="where runs are looked for by name: a folder or a URI (default: %(default)s)",
    )
    history.add_argument(
        "--format",
        default="table",
        choices=("table", "csv", "json"),
        help="how the answer is written (default: %(default)s)",
    )
    for sub in (running, extending):
        sub.add_argument(
            "--image",
            metavar="REF",
            help="run every task in a container of this image, with docker or podman",
        )
    add_deployment_arguments(compiling)
    compiling.add_argument("--output", required=True, metavar="FILE", help="file that is written")
    reporting.add_argument(
        "run", metavar="RUN", help="folder or URI of a run; with --host a run's name or identifier"
    )
    for sub in (history, reporting):
        add_access_arguments(sub)
    return parser


def _examples(text: str) -> int:
    examples = int(text)
    if not 1 <= examples <= MOST_EXAMPLES:
        raise argparse.ArgumentTypeError(f"{examples}: must be between 1 and {MOST_EXAMPLES:,}")
    return examples


def _list(options: argparse.Namespace) -> None:
    from optduel.pipeline.cli.shipped import load_experiment, shipped_names

    titles = {name: load_experiment(name).title for name in shipped_names()}
    if options.json:
        print_json([{"name": name, "title": title} for name, title in titles.items()])
        return
    for name, title in titles.items():
        print(f"{name:<10} {title}")


def _show(options: argparse.Namespace) -> None:
    from optduel.components.settings import json_schema
    from optduel.pipeline.cli.shipped import deployment_fields
    from optduel.pipeline.cli.showing import describe, describe_json, in_yaml

    if options.schema:
        print_json(json_schema())
        return
    if options.deployment is not None:
        fields = deployment_fields(options.deployment)
        if options.json:
            print_json(fields)
        else:
            print(in_yaml(fields), end="")
        return
    if options.experiment is None:
        raise ExperimentError(
            "EXPERIMENT: is required, unless --schema or --deployment is given; `optduel list` names the "
            "shipped experiments"
        )
    experiment = experiment_of(options)
    if options.json:
        print_json(describe_json(experiment, options.examples))
    else:
        print(describe(experiment, options.examples))


def _check(options: argparse.Namespace) -> None:
    from optduel.components.settings import cautions

    experiment = experiment_of(options)
    refuse_bad_start(experiment)
    found = [*cautions(experiment), *_on_class_names(experiment)]
    if options.json:
        print_json({"name": experiment.name, "fingerprint": experiment.fingerprint, "cautions": found})
        return
    count = len(found)
    verdict = f"can run, with {count} caution{'' if count == 1 else 's'}" if found else "sound"
    print(f"{options.experiment}: {verdict}; fingerprint {experiment.fingerprint[:12]}")
    for caution in found:
        print(f"caution: {caution}")
    settings = [word for assignment in options.assignments for word in ("--set", assignment)]
    print(f"next: {shlex.join(['optduel', 'run', options.experiment, *settings])}", file=sys.stderr)


def _on_class_names(experiment: Experiment) -> list[str]:
    """What is odd about the names of the classes, where they can be listed here and now.

    Raises:
        DataError: the images lie here, and not as they have to.
    """
    from optduel.components.records import name_cautions

    source = experiment.data.source
    places = source.places.values()
    try:
        are_here = all(not is_remote(place) and kind_of(place) for place in places)
    except StorageError:  # a caution tells that it cannot be looked at
        return []
    if not places or source.kind == "tfds" or not are_here:
        return []
    from optduel.components.prepare.sources import SOURCES

    return name_cautions(SOURCES[source.kind](source, local_path(".")).classes)


def _run(options: argparse.Namespace) -> None:
    _run_here(experiment_of(options), options.root, options)


def _extend(options: argparse.Namespace) -> None:
    from optduel.pipeline.cli.extending import load_extended, write_extended

    experiment, root = load_extended(options.run, options.seeds)
    if options.output is None:
        _run_here(experiment, root, options)
    else:
        write_extended(experiment, options.output)
        print(options.output)
        print(f"next: optduel submit {options.output}", file=sys.stderr)


def _run_here(experiment: "Experiment", root: str, options: argparse.Namespace) -> None:
    from optduel.pipeline.cli.reporting import told
    from optduel.pipeline.local.run import run_experiment

    refuse_bad_start(experiment)
    tell_cautions(experiment)
    folder, run, found = run_experiment(experiment, root, options.image)
    page = join(folder, str(run.page))
    if options.json:
        answer = {"run": folder, "report": page, "address": _address(page), "fingerprint": run.fingerprint}
        kind = "comparison" if experiment.retraining is None else "retraining"
        print_json(answer | {kind: found.model_dump(mode="json")})
        return
    for sentence in told(found):
        print(sentence)
    print(f"report: {page}\naddress: {_address(page)}")


def _compile(options: argparse.Namespace) -> None:
    from optduel.pipeline.graph.definition import compile_pipeline

    path, experiment = local_path(options.output), experiment_of(options)
    compile_pipeline(experiment, deployment_of(options), path)
    tell_cautions(experiment)
    print(path)


def _history(options: argparse.Namespace) -> int:
    """1 where runs are left out because they cannot be read."""
    from optduel.components.results import read_index
    from optduel.pipeline.cli.histories import list_runs, show_histories

    if options.runs:
        named = [_on_cluster(options, run) for run in options.runs]
        print(show_histories(named, options.root, options.format), end="")
        return 0
    index = read_index(options.root)
    print(list_runs(index, options.root, options.format), end="")
    for problem in index.problems:
        print(f"left out: {problem}", file=sys.stderr)
    return 1 if index.problems else 0


def _report(options: argparse.Namespace) -> None:
    from optduel.pipeline.cli.reporting import rebuild

    folder = _on_cluster(options, options.run)
    page = rebuild(folder if is_remote(folder) else str(resolved(folder)))
    if options.json:
        print_json({"report": page, "address": _address(page)})
    else:
        print(f"report: {page}\naddress: {_address(page)}")


def _on_cluster(options: argparse.Namespace, run: str) -> str:
    """The folder of a run that is named as on Kubeflow Pipelines, where --host says that it is."""
    if options.host is None or "/" in run:
        return run
    from optduel.pipeline.kfp.connection import Connection
    from optduel.pipeline.kfp.following import folder_of

    connection = Connection(access_of(options))
    connection.open()
    return folder_of(connection, run)


def _address(page: str) -> str:
    """What a browser opens; a store's own page cannot be known from here, so its URI stays as it is."""
    return page if is_remote(page) else local_path(page).as_uri()
