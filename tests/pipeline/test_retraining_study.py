"""A retraining by the whole comparison, tuned: its better arm is the candidate, with the chosen setting."""

import json
from pathlib import Path
from typing import Any

import pytest

from optduel.components.champions import current
from optduel.components.results import read_choice, task_costs
from optduel.pipeline.cli.command_line import main

QUICK = [
    "model={name: linear}",
    "training.epochs=1",
    "tuning={trials: 2, seeds: [901]}",
    "study.seeds=[0, 1]",
    "retraining={champion: weekly, mode: study}",
]


@pytest.mark.slow
def test_the_better_arm_with_its_chosen_setting_becomes_the_champion(
    quick_starts: None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    # The same code in every run, whatever is committed meanwhile.
    monkeypatch.setenv("OPTDUEL_CODE_VERSION", "1")
    root = str(tmp_path / "root")

    def run(*settings: str) -> dict[str, Any]:
        arguments = [word for setting in (*QUICK, *settings) for word in ("--set", setting)]
        code = main(["run", "digits", "--root", root, *arguments, "--json"])
        told = capsys.readouterr()
        assert code == 0, told.err
        answer: dict[str, Any] = json.loads(told.out)
        return answer

    study = run()
    assert study["retraining"]["outcome"] == "promoted"
    choice = read_choice(study["run"])
    assert choice is not None
    held = current(root, "weekly")
    assert held is not None
    candidate = held.champion.candidate
    chosen = choice.chosen()[candidate.arm.name]
    assert {path: candidate.arm.numbers[path] for path in chosen} == chosen
    assert Path(study["run"], "report.html").is_file()
    assert Path(study["run"], "timeline.html").is_file()
    costs = {cost.task for cost in task_costs(root, candidate.run)}
    assert {"tune sgd-l2", "tune adamw", "choose", "compare", "report", "gate"} <= costs

    assert run()["retraining"]["outcome"] == "skipped"
