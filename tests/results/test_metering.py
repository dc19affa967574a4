"""What a task has cost is measured by itself, and summed over a run."""

import subprocess
import sys
from pathlib import Path

import pytest

from optduel.components.core import DataError
from optduel.components.results import METER_VARIABLE, Meter, metered, run_folder, sum_costs, task_costs
from optduel.components.settings import Prices

SPIN = "import time\nend = time.process_time() + 0.3\nwhile time.process_time() < end: pass"


def test_here_used_seconds_count_those_of_children_included(tmp_path: Path) -> None:
    root = str(tmp_path)
    with metered("train", root, "run"):
        subprocess.run([sys.executable, "-c", SPIN], check=True, timeout=60)
    (cost,) = task_costs(root, "run")
    assert cost.task == "train"
    assert cost.processor_seconds >= 0.3
    assert cost.seconds >= 0.3
    assert (cost.accelerator_seconds, cost.price) == (0, None)


def test_on_a_cluster_reserved_seconds_count_and_have_a_price(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = str(tmp_path)
    prices = Prices(currency="EUR", processor_hour=36, accelerator_hour=3600)
    monkeypatch.setenv(METER_VARIABLE, Meter(processors=2, accelerators=1, prices=prices).canonical_json())
    for task in ("train", "evaluate champion"):
        with metered(task, root, "run"):
            pass
    costs = task_costs(root, "run")
    assert {cost.task for cost in costs} == {"train", "evaluate champion"}
    for cost in costs:
        assert cost.processor_seconds == pytest.approx(2 * cost.seconds)
        assert cost.price == pytest.approx(cost.seconds * (2 * 0.01 + 1))
    total = sum_costs(costs)
    assert total.tasks == 2
    assert total.price == pytest.approx(sum(cost.price or 0 for cost in costs))
    assert total.text.endswith("EUR")


def test_a_failed_attempt_costs_too_and_its_error_stays(tmp_path: Path) -> None:
    root = str(tmp_path)
    for _ in range(2):
        with pytest.raises(DataError, match="bad image"), metered("prepare", root, "run"):
            raise DataError("bad image")
    assert len(task_costs(root, "run")) == 2
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(DataError, match="bad image"), metered("prepare", str(tmp_path / "file"), "run"):
        raise DataError("bad image")


def test_a_task_whose_result_is_shared_is_not_measured(tmp_path: Path) -> None:
    with metered("prepare", str(tmp_path), ""):
        pass
    assert list(tmp_path.iterdir()) == []
    assert sum_costs([]).text == "0 processor-hours"


def test_a_damaged_cost_is_named(tmp_path: Path) -> None:
    folder = Path(run_folder(str(tmp_path), "run"), "costs")
    folder.mkdir(parents=True)
    (folder / "x.json").write_text("{}")
    with pytest.raises(DataError, match=r"costs/x.json: is damaged; remove it"):
        task_costs(str(tmp_path), "run")
