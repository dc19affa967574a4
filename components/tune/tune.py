"""The tune stage's one call: from an arm's search to what each of its settings comes to on validation.

A setting with a seed is known by its fingerprint, as trials are. What came of it is kept at
`<root>/tuned/<fingerprint>.json` as soon as it has ended: whoever asks for it again, in this run or another,
takes it from there.
"""

from collections.abc import Callable
from pathlib import Path

from optduel.components.core import say
from optduel.components.records import load_records
from optduel.components.results import (
    TunedSetting,
    TunedSettings,
    TunedTrial,
    code_version,
    read_document,
    run_folder,
    tuned_folder,
    tuned_part,
    write_document,
)
from optduel.components.settings import Tuning, canonical_json, decode, settings_of, validate
from optduel.components.storage import join, publish
from optduel.components.train.contract.finished import UNKNOWN_CODE, tuned_trial
from optduel.components.train.contract.task import Task
from optduel.components.train.local.local_launcher import Launcher, LocalLauncher
from optduel.components.train.stage import checked, discard_checkpoints, run_together


def searched_arm(sections: str) -> str:
    """The name of the arm in sections as `tune_settings` takes them."""
    return str(decode(dict[str, dict[str, object]], sections, "sections")["arm"]["name"])


def tune_settings(
    sections: str,
    tuning: str,
    part: str,
    root: str,
    run: str,
    records_file: Path,
    metrics_file: Path,
    launcher: Callable[[str], Launcher] = lambda _: LocalLauncher(),
) -> dict[str, float]:
    """Trains the settings of one part of an arm's search; those that have ended already stay as they are.

    All are trained by one group of workers, which starts and compiles once.

    Args:
        sections: the experiment's `model`, `arm`, `training` and `compute`, as one JSON object.
        tuning: the experiment's section, JSON.
        part: which of the `tuning.tasks` parts, from 0: a number.
        root: of datasets, trials and runs, a path or a URI.
        run: the run's name, unique below root.
        records_file: the Records document.
        metrics_file: where the returned numbers go, as JSON.
        launcher: makes what runs the workers of the trials in a folder; on this host unless given.

    Returns:
        Numbers for KFP's table: how many settings, how many diverged, the best score.

    Raises:
        OptduelError: what ended the workers. Settings that had ended by then are kept.
    """
    asked = decode(Tuning, tuning, "tuning")
    authored = decode(dict[str, dict[str, object]], sections, "sections")
    folder = run_folder(root, run)
    # Of code that is not a commit's, two trials of one fingerprint need not be the same.
    kept = join(folder if code_version().endswith(UNKNOWN_CODE) else root, "tuned")
    given = {"seed": asked.seeds[0], "records": load_records(records_file), "output": folder}
    typed = checked(validate(Task, {**authored, **given}, "tune"))
    arm, number = typed.arm, int(part)
    mine = list(enumerate(settings_of(arm, asked), start=1))[number :: asked.tasks]

    def task(setting: int, values: dict[str, float], seed: int) -> Task:
        output = join(tuned_folder(folder, arm.name), f"setting-{setting}-seed-{seed}")
        own = {"seed": seed, "output": output, "setting": setting}
        one = typed.with_setting(values).model_copy(update=own)
        return one.model_copy(update={"result": join(kept, f"{one.fingerprint}.json")})

    tasks = {setting: [task(setting, values, seed) for seed in asked.seeds] for setting, values in mine}
    known = {one.fingerprint: tuned_trial(one) for trials in tasks.values() for one in trials}
    left = [one for trials in tasks.values() for one in trials if known[one.fingerprint] is None]
    if len(left) < len(known):
        say(f"tune {arm.name}: {len(known) - len(left)} of {len(known)} trials are known already")
    if left:
        home = join(tuned_folder(folder, arm.name), f"part-{number}")
        run_together(left, launcher(home), home)
        discard_checkpoints(left)

    def ended(one: Task) -> TunedTrial:
        return known[one.fingerprint] or read_document(one.record_file, TunedTrial)

    settings = tuple(
        TunedSetting(number=setting, values=values, trials=tuple(map(ended, tasks[setting])))
        for setting, values in mine
    )
    write_document(tuned_part(folder, arm.name, number), TunedSettings(arm=arm.name, settings=settings))
    numbers = _numbers(settings, asked)
    publish(metrics_file, canonical_json(numbers).encode())
    return numbers


def _numbers(settings: tuple[TunedSetting, ...], tuning: Tuning) -> dict[str, float]:
    medians = [one.median(tuning.metric) for one in settings]
    known = [median for median in medians if median is not None]
    best = min(known, default=None) if tuning.metric == "cross_entropy" else max(known, default=None)
    found = {"settings": float(len(settings)), "diverged": float(len(settings) - len(known))}
    return found if best is None else found | {f"best_validation_{tuning.metric}": best}
