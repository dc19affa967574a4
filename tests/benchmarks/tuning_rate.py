"""How fast settings of an arm are tried: by the tune stage, or by a `train` for each."""

import time
from pathlib import Path
from typing import Any

from optduel.components.core import say
from optduel.components.settings import canonical_json, settings_of
from optduel.components.train.stage import train_trials
from optduel.components.tune.tune import tune_settings
from optduel.pipeline.cli.shipped import load_experiment

ARM = "sgd-l2"


def run(seed: int, folder: Path, records: str, settings: int, is_tuned: bool) -> dict[str, Any]:
    """Trains settings of the search of `digits`, whole.

    Args:
        seed: of the trials.
        folder: for all that they leave.
        records: the Records document.
        settings: how many.
        is_tuned: by the tune stage, in one training process; otherwise each in one of its own.

    Returns:
        Settings per minute, from the stage's first call to the end of its last, with all starts.
    """
    chosen = load_experiment("digits", [f"tuning.trials={settings}", f"tuning.seeds=[{100 + seed}]"])
    arm = next(arm for arm in chosen.arms if arm.name == ARM)
    assert chosen.tuning is not None
    tuning = chosen.tuning.model_copy(update={"tasks": 1})
    sections = {
        name: section.model_dump(mode="json")
        for name, section in (
            ("model", chosen.model),
            ("arm", arm),
            ("training", chosen.training),
            ("compute", chosen.compute),
        )
    }
    records_file, root, metrics_file = Path(records), str(folder / "root"), folder / "metrics.json"
    began = time.perf_counter()
    if is_tuned:
        tune_settings(
            canonical_json(sections),
            canonical_json(tuning.model_dump(mode="json")),
            "0",
            root,
            "tuned",
            records_file,
            metrics_file,
        )
    else:
        seeds = canonical_json(list(tuning.seeds))
        for number, values in enumerate(settings_of(arm, tuning)):
            found, models = canonical_json({ARM: values}), str(folder / f"models-{number}")
            train_trials(canonical_json(sections), found, seeds, root, records_file, models, metrics_file)
    seconds = time.perf_counter() - began
    say(f"{settings} settings in {seconds:.1f} s")
    return {"settings_per_minute": 60 * settings / seconds}
