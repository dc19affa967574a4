"""The file `schedules.yaml`: which experiments run again and again, where, and when."""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, StringConstraints, model_validator

from optduel.components.core import ExperimentError
from optduel.components.settings import (
    MAX_CHARACTERS,
    Alerts,
    Gate,
    Section,
    canonical_json,
    load_fields,
    validate,
)
from optduel.pipeline.cli.shipped import load_deployment, load_experiment
from optduel.pipeline.kfp.cron import parse_cron
from optduel.pipeline.kfp.reconciling import Wanted
from optduel.pipeline.kfp.scheduling import Schedule
from optduel.pipeline.kfp.submission import prepare


def _cron(text: str) -> str:
    try:
        parse_cron(text)
    except ExperimentError as error:
        raise ValueError(str(error).removeprefix("--cron = ")) from error
    return text


class ScheduleEntry(Section):
    """One schedule.

    Attributes:
        name: of the recurring run; no two have the same.
        experiment: a shipped one, or a file, from this file's folder on.
        set: fields of the experiment, as `--set` takes them.
        deployment: a shipped one, or a file, from this file's folder on.
        deploy: fields of the deployment, as `--deploy` takes them.
        image: of all tasks and workers.
        root: where records, runs and their index go.
        cron: six fields, seconds first, in the time zone of Kubeflow Pipelines.
        paused: starts no runs.
        champion, mode, gate: of the experiment's section `retraining`, where they differ from it.
        alerts: of the deployment, where they differ from it.
    """

    name: Annotated[str, StringConstraints(pattern=r"^\S(.{0,98}\S)?$")]
    experiment: str
    set: tuple[str, ...] = ()
    deployment: str = "pod"
    deploy: tuple[str, ...] = ()
    image: str | None = None
    root: str | None = None
    cron: Annotated[str, AfterValidator(_cron)]
    paused: bool = False
    champion: str | None = None
    mode: Literal["candidate", "study"] | None = None
    gate: Gate | None = None
    alerts: Alerts | None = None


class ScheduleFile(Section):
    """The content of the file."""

    schedules: Annotated[tuple[ScheduleEntry, ...], Field()] = ()

    @model_validator(mode="after")
    def _names_differ(self) -> Self:
        names = [one.name for one in self.schedules]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"schedules: {', '.join(twice)} is the name of several; give each its own")
        return self


def load_schedules(path: str) -> list[Wanted]:
    """The schedules of a file, compiled.

    Raises:
        ExperimentError: it cannot be read, breaks a rule, or names what does.
    """
    file = Path(path)
    try:
        text = file.read_text(encoding="utf-8")[: MAX_CHARACTERS + 1]
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise ExperimentError(f"--file = {path}: {reason}; check the path") from error
    authored = load_fields(text, path, "a file of schedules: schedules")
    read = validate(ScheduleFile, authored, path)
    return [_wanted(one, file) for one in read.schedules]


def _wanted(entry: ScheduleEntry, file: Path) -> Wanted:
    with _named(f"{file}: schedules.{entry.name}"):
        experiment = load_experiment(_beside(file, entry.experiment), [*entry.set, *_retraining(entry)])
        deployment = load_deployment(
            _beside(file, entry.deployment),
            [
                *entry.deploy,
                *_assigned({"image": entry.image, "root": entry.root, "alerts": _given(entry.alerts)}),
            ],
        )
        authored = entry.model_dump(mode="json", exclude={"name", "cron", "paused"}, exclude_unset=True)
        submission = prepare(experiment, deployment, authored)
    return Wanted(entry.name, submission, parse_cron(entry.cron), not entry.paused)


@contextlib.contextmanager
def _named(where: str) -> Iterator[None]:
    try:
        yield
    except ExperimentError as error:
        raise ExperimentError(f"{where}: {error}") from error


def _retraining(entry: ScheduleEntry) -> list[str]:
    given = {"champion": entry.champion, "mode": entry.mode, **_fields_of(entry.gate)}
    return _assigned({f"retraining.{name}": value for name, value in given.items()})


def _fields_of(gate: Gate | None) -> dict[str, Any]:
    return {f"gate.{name}": value for name, value in (_given(gate) or {}).items()}


def _given(section: Section | None) -> dict[str, Any] | None:
    return section.model_dump(mode="json", exclude_unset=True) if section else None


def _assigned(values: Mapping[str, Any]) -> list[str]:
    return [f"{name}={canonical_json(value)}" for name, value in values.items() if value is not None]


def _beside(file: Path, name_or_path: str) -> str:
    """What the file names, from its own folder on; shipped ones have no suffix."""
    return str(file.parent / name_or_path) if Path(name_or_path).suffix else name_or_path


def as_file(schedules: Sequence[Schedule]) -> tuple[str, list[str]]:
    """The file that describes what is there.

    Returns:
        YAML text; and what cannot be in it, with the reason.
    """
    from optduel.pipeline.cli.showing import in_yaml

    entries, left_out = [], []
    for schedule in schedules:
        authored = schedule.authored
        if authored is None or schedule.cron is None:
            why = (
                "has a period, no cron expression"
                if authored
                else "its version does not say what it was made of"
            )
            left_out.append(f"{schedule.name}: {why}; create it anew from the file")
            continue
        paused = {} if schedule.state == "enabled" else {"paused": True}
        entries.append({"name": schedule.name, "cron": schedule.cron, **paused, **authored})
    return in_yaml({"schedules": entries}), left_out
