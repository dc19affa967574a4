"""The commands about a champion: look at it, and change it by hand."""

import argparse
from collections.abc import Callable
from typing import TYPE_CHECKING

from optduel.components.core import ExperimentError
from optduel.components.storage import is_remote, join, resolved, stat
from optduel.pipeline.cli.arguments import print_json
from optduel.pipeline.cli.cluster_commands import Adder

if TYPE_CHECKING:
    from optduel.components.champions import Candidate, Champion


def add_champion_commands(add_command: Adder, default_root: str) -> None:
    """Adds `champion`, with `show`, `history`, `promote`, `rollback` and `pin` below it, and `lineage`."""
    parser = add_command(
        None,
        "champion",
        "Show or change the model in use of a name.",
        "optduel champion rollback flowers --by ann --reason 'confuses roses in the shop'",
    )
    lineage = add_command(
        _lineage,
        "lineage",
        "Walk a model back to its images, and say whether all that it was made from is still there.",
        "optduel lineage flowers --root ~/studies",
    )
    lineage.add_argument(
        "model", metavar="MODEL", help="a champion's name, a run's name, or the place of a model"
    )
    lineage.add_argument(
        "--root",
        default=default_root,
        metavar="DIR",
        help="where champions and runs are looked for by name (default: %(default)s)",
    )
    lineage.add_argument("--json", action="store_true", help="print the answer as JSON")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    def add(
        command: Callable[[argparse.Namespace], None], name: str, purpose: str, changes: bool
    ) -> argparse.ArgumentParser:
        named = " flowers-20261128T101500Z" if name == "promote" else ""
        example = f"{named} --by ada --reason 'measured again'" if changes else ""
        sub = commands.add_parser(
            name,
            help=purpose,
            description=purpose,
            epilog=f"example:\n  optduel champion {name} flowers{example}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        sub.set_defaults(command=command)
        sub.add_argument("name", metavar="NAME", help="the champion's name")
        sub.add_argument(
            "--root",
            default=default_root,
            metavar="DIR",
            help="where runs and champions are: a folder or a URI (default: %(default)s)",
        )
        sub.add_argument("--json", action="store_true", help="print the answer as JSON")
        if changes:
            sub.add_argument(
                "--by", required=True, metavar="WHO", help="who makes the change, for the record"
            )
            sub.add_argument("--reason", required=True, metavar="WHY", help="why, for the record")
        return sub

    add(_show, "show", "Show the model in use, and how it became that.", False)
    add(_history, "history", "List every change, oldest first.", False)
    promoting = add(
        _promote, "promote", "Make a run's candidate the champion, whatever the gate has said.", True
    )
    promoting.add_argument(
        "run", metavar="RUN", help="a run's name below --root; of a comparison, its better arm is taken"
    )
    going_back = add(_roll_back, "rollback", "Make an earlier model the champion again.", True)
    going_back.add_argument(
        "--to",
        type=int,
        metavar="NUMBER",
        help="change to go back to (default: that of the model before)",
    )
    pinning = add(_pin, "pin", "Keep the champion, whatever runs find, until it is released.", True)
    pinning.add_argument("--release", action="store_true", help="release it")


def _lineage(options: argparse.Namespace) -> int:
    """1 where something is gone or was changed."""
    from optduel.pipeline.cli.lineage_commands import show_lineage

    return show_lineage(options)


def _root(options: argparse.Namespace) -> str:
    return join(options.root) if is_remote(options.root) else str(resolved(options.root))


def _show(options: argparse.Namespace) -> None:
    from optduel.components.champions import current

    held = current(_root(options), options.name)
    if held is None:
        raise ExperimentError(
            f"champion {options.name}: there is none below {_root(options)}; a retraining run makes one"
        )
    champion = held.champion
    if options.json:
        print_json(champion.model_dump(mode="json"))
        return
    candidate = champion.candidate
    accuracy, loss = candidate.accuracy, candidate.cross_entropy
    lines = {
        "champion": f"{champion.name}, change {champion.number}{', pinned' if champion.pinned else ''}",
        "model": candidate.model,
        "sha-256": candidate.model_sha256,
        "arm": f"{candidate.arm.name} ({candidate.arm.optimizer}), seed {candidate.seed}",
        "classes": ", ".join(candidate.classes),
        "accuracy": f"{accuracy.value:.2%} ({accuracy.low:.2%} to {accuracy.high:.2%})",
        "cross-entropy": f"{loss.value:.4f} ({loss.low:.4f} to {loss.high:.4f})",
        "measured on": f"{candidate.examples} test images of data {candidate.data_fingerprint[:12]}",
        "run": f"{candidate.run} of {candidate.experiment} {candidate.fingerprint[:12]}",
        "code": candidate.code_version,
        "changed": f"{champion.time}, {champion.action} by {champion.by}: {champion.reason}",
    }
    for name, value in lines.items():
        print(f"{name:<14} {value}")


def _history(options: argparse.Namespace) -> None:
    from optduel.components.champions import history, story

    changes = history(_root(options), options.name)
    if options.json:
        print_json([change.model_dump(mode="json") for change in changes])
    elif changes:
        print("\n".join(story(changes)))
    else:
        raise ExperimentError(f"champion {options.name}: there is none below {_root(options)}")


def _promote(options: argparse.Namespace) -> None:
    from optduel.components.champions import current, gate_file, read_judgement
    from optduel.components.promote.hand_over import hand_over
    from optduel.components.promote.promotion import promote

    root = _root(options)
    if stat(gate_file(root, options.run)) is None:
        candidate = _compared(root, options.name, options.run)
    else:
        candidate = read_judgement(root, options.run).candidate
    held = current(root, options.name)
    number, registry = (held.champion.number, held.champion.registry) if held else (None, None)
    how = (options.by, options.reason, hand_over, registry)
    champion = promote(root, options.name, candidate, number, "overridden", *how)
    _tell(options, root, champion)


def _compared(root: str, name: str, run: str) -> "Candidate":
    """The candidate of a run that compared arms for no champion."""
    from optduel.components.champions import images_file, select_candidate, trained_arms, write_images
    from optduel.components.decide.inventory import take_inventory
    from optduel.components.records import load_records
    from optduel.components.results import EXPERIMENT_NAME, RECORDS_NAME, run_folder
    from optduel.components.settings import Experiment, decode
    from optduel.components.storage import read

    place = join(run_folder(root, run), EXPERIMENT_NAME)
    if stat(place) is None:
        raise ExperimentError(f"{place}: is not there; name a finished run: optduel history --root {root}")
    experiment = decode(Experiment, read(place), place)
    records = load_records(join(run_folder(root, run), RECORDS_NAME))
    arms, seeds = trained_arms(root, run, experiment), experiment.study.seeds
    candidate = select_candidate(root, run, experiment, arms, seeds, records.manifest, "accuracy")
    listed = images_file(root, name, records.manifest.fingerprint)
    if stat(listed) is None:
        # So that a later run knows which images this model was trained on.
        write_images(listed, take_inventory(records))
    return candidate


def _roll_back(options: argparse.Namespace) -> None:
    from optduel.components.promote.promotion import roll_back

    root = _root(options)
    champion = roll_back(root, options.name, options.to, options.by, options.reason)
    _tell(options, root, champion)


def _pin(options: argparse.Namespace) -> None:
    from optduel.components.promote.promotion import pin

    root = _root(options)
    champion = pin(root, options.name, not options.release, options.by, options.reason)
    _tell(options, root, champion)


def _tell(options: argparse.Namespace, root: str, champion: "Champion") -> None:
    """Tells a change, and the champion's story anew."""
    from optduel.components.champions import tell_story

    tell_story(root, options.name)
    if options.json:
        print_json(champion.model_dump(mode="json"))
        return
    print(f"{champion.name}: change {champion.number}, {champion.action}: run {champion.candidate.run}")
    print(f"model: {champion.candidate.model}")
