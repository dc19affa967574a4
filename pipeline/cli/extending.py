"""`optduel extend`: a finished study goes on with more seeds, and its verdict stays as valid as it was."""

import yaml

from optduel.components.core import ExperimentError
from optduel.components.results import EXPERIMENT_NAME
from optduel.components.settings import LOOK_EVERY, Experiment, decode, validate
from optduel.components.storage import is_remote, join, local_path, publish, read, resolved, stat
from optduel.pipeline.local.run import load_run


def extended(experiment: Experiment, more: int) -> Experiment:
    """The experiment with more seeds, whose verdict is another look at the same study.

    Args:
        experiment: of a study that was looked at.
        more: seeds.

    Raises:
        ExperimentError: no look is declared after so many seeds, or the experiment would break a rule.
    """
    if more < 1 or more % LOOK_EVERY:
        raise ExperimentError(
            f"--seeds = {more}: must be a multiple of {LOOK_EVERY}: looks are declared in advance, one every "
            f"{LOOK_EVERY} seeds, or p would not stay valid"
        )
    if experiment.retraining:
        raise ExperimentError("RUN: retrains a champion and compares no arms; extend the run of a study")
    study = experiment.study
    taken = {*study.seeds, *(experiment.tuning.seeds if experiment.tuning else ())}
    start = max(taken) + 1
    fields = experiment.model_dump(mode="json")
    fields["study"] |= {
        "seeds": [*study.seeds, *range(start, start + more)],
        "first_look": study.looks[0],
    }
    return validate(Experiment, fields, "--seeds")


def load_extended(run: str, more: int) -> tuple[Experiment, str]:
    """The extended experiment of a run, and the root that the run lies below.

    Args:
        run: its folder, a path or a URI.
        more: seeds.

    Raises:
        ExperimentError: it is in no root, is still running, or cannot be extended so.
        StorageError: it cannot be read.
    """
    folder = join(run) if is_remote(run) else str(resolved(run))
    root, found, _ = folder.rpartition("/runs/")
    if not found:
        raise ExperimentError(f"RUN = {run}: must be <root>/runs/<name>, the folder of a run")
    place = join(folder, EXPERIMENT_NAME)
    if stat(place):
        return extended(decode(Experiment, read(place).decode(), place), more), root
    return extended(load_run(folder).experiment, more), root


def write_extended(experiment: Experiment, output: str) -> None:
    """Writes an experiment as YAML.

    Raises:
        ExperimentError: the file is not called so.
        StorageError: it cannot be written.
    """
    path = local_path(output)
    if path.suffix not in {".yaml", ".yml"}:
        raise ExperimentError(f"--output = {output}: must end in .yaml")
    fields = experiment.model_dump(mode="json")
    publish(path, yaml.safe_dump(fields, sort_keys=False, allow_unicode=True).encode())
