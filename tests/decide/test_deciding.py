"""What a run for a champion has to do, and which data it refuses."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from optduel.components.champions import (
    Candidate,
    Champion,
    RetrainingDecision,
    RetrainingRun,
    champion_folder,
    change,
    current,
    images_file,
    read_decision,
    retraining_runs,
    write_retraining_run,
)
from optduel.components.core import DataError, ExperimentError
from optduel.components.decide.deciding import Decided, decide_run
from optduel.components.records import Originals, Records
from optduel.components.results import code_version, read_notices, run_folder
from optduel.components.settings import Experiment
from optduel.components.storage import delete, join, read
from optduel.pipeline.cli.shipped import load_experiment
from tests.champions.conftest import candidate_of


def study_of(*assignments: str) -> Experiment:
    return load_experiment("digits", ["tuning=null", "retraining={champion: weekly}", *assignments])


class Week:
    """A root with digits as today's records, and a champion where one is made."""

    def __init__(self, folder: Path, records: Records) -> None:
        self.root = str(folder / "root")
        self.records = records
        self._folder = folder
        self._file = folder / "records.json"
        self._file.write_text(records.canonical_json())

    def decide(self, run: str, study: Experiment) -> Decided:
        out = self._folder / run
        return decide_run(
            study.canonical_json(), self.root, run, self._file, out / "changes.html", out / "metrics.json"
        )

    def champion(self, **fields: Any) -> Champion:
        """Makes one that was trained on today's records by today's code, but for some fields."""
        self.decide("first", study_of())  # which looks at the images
        study, manifest = study_of(), self.records.manifest
        known = {
            "fingerprint": study.fingerprint,
            "data_fingerprint": manifest.fingerprint,
            "code_version": code_version(),
            "arm": study.arms[1],
            "classes": manifest.classes,
            "image_shape": manifest.image_shape,
            "images": {name: split.records for name, split in manifest.splits.items()},
        }
        time = fields.pop("time", "2026-11-02T06:00:00+00:00")
        candidate = candidate_of(self.root, "first", b"model").model_copy(update=known | fields)
        champion = Champion(
            name="weekly",
            number=1,
            action="promoted",
            time=time,
            by="run first",
            reason="there was no champion",
            candidate=Candidate.model_validate(dict(candidate)),
        )
        change(self.root, None, champion)
        return champion

    def timelines(self, run: str) -> int:
        """How many of the champion's page and the run's tell of the run."""
        folders = champion_folder(self.root, "weekly"), run_folder(self.root, run)
        return sum(f"<bdi>{run}</bdi>" in read(join(one, "timeline.html")).decode() for one in folders)


@pytest.fixture
def week(tmp_path: Path, records: Records) -> Week:
    return Week(tmp_path, records)


def test_without_a_champion_an_arm_of_the_experiment_is_trained(week: Week) -> None:
    decided = week.decide("one", study_of())
    assert decided.word == "train"
    assert json.loads(decided.sections)["arm"]["name"] == "sgd-l2"
    other = week.decide("two", study_of("retraining.arm=adamw"))
    assert json.loads(other.sections)["arm"]["name"] == "adamw"
    assert week.decide("three", study_of("retraining.mode=study")).sections == ""
    assert read_decision(week.root, "one").reason == "there is no champion yet"


def test_the_page_tells_how_images_as_they_came_have_changed(week: Week) -> None:
    before = Originals(formats={"JPEG": 1700}, widths=(8, 8, 8, 8, 1200), heights=(6, 7, 8, 9, 10))
    week.champion(originals=before.model_dump(), copies=3)
    week.decide("page", study_of())
    rows = re.findall(
        r'<tr><th scope="row">([^<]+)</th><td class="text">([^<]+)</td><td class="text">([^<]+)</td></tr>',
        read(join(run_folder(week.root, "page"), "changes.html")).decode(),
    )
    assert rows == [
        ("formats", "JPEG 1,700", "BMP 1,797"),
        ("width, pixels", "8 (8 to 1,200; half of them 8 to 8)", "8 (8 to 8; half of them 8 to 8)"),
        ("height, pixels", "8 (6 to 10; half of them 7 to 9)", "8 (8 to 8; half of them 8 to 8)"),
        ("exact copies", "3", "0"),
    ]


def test_what_is_not_known_of_a_champions_images_is_said(week: Week) -> None:
    week.champion()
    week.decide("page", study_of())
    page = read(join(run_folder(week.root, "page"), "changes.html")).decode()
    assert page.count('<td class="text">unknown</td>') == 4


def test_equal_data_experiment_and_code_are_skipped_unless_forced(week: Week) -> None:
    week.champion()
    skipped = week.decide("same", study_of())
    assert (skipped.word, skipped.sections) == ("skip", "")
    assert read_decision(week.root, "same").reason == "nothing has changed since run first made the champion"
    forced = week.decide("forced", study_of("retraining.force=true"))
    assert forced.word == "train"
    assert read_decision(week.root, "forced").reason.startswith("forced, although nothing has changed")


@pytest.mark.parametrize(
    ("field", "value", "told"),
    [
        ("code_version", "another", "the code has changed from another to"),
        ("fingerprint", "e" * 64, "the experiment has changed"),
    ],
)
def test_changed_code_or_experiment_is_trained(week: Week, field: str, value: str, told: str) -> None:
    week.champion(**{field: value})
    decided = week.decide("next", study_of())
    assert decided.word == "train"
    assert told in read_decision(week.root, "next").reason
    assert json.loads(decided.sections)["arm"]["name"] == "adamw", "the champion's arm"


def test_the_candidate_has_the_champions_settings(week: Week) -> None:
    tuned = study_of().arms[1].model_copy(update={"weight_decay": 0.123})
    week.champion(arm=tuned, code_version="another")
    assert json.loads(week.decide("next", study_of()).sections)["arm"]["weight_decay"] == 0.123
    changed = study_of("arms.adamw.weight_decay=0.5")
    assert json.loads(week.decide("changed", changed).sections)["arm"]["weight_decay"] == 0.5


def test_a_champion_that_does_not_fit_is_told(week: Week) -> None:
    champion = week.champion(code_version="another")
    with pytest.raises(ExperimentError, match="has no adamw, the arm of champion weekly; there are"):
        week.decide("next", study_of("arms.adamw.name=adam-w"))
    delete(images_file(week.root, "weekly", champion.candidate.data_fingerprint))
    elsewhere = champion.candidate.model_copy(update={"data_fingerprint": "c" * 64})
    changed = champion.model_copy(update={"candidate": elsewhere, "number": 2})
    change(week.root, current(week.root, "weekly"), changed)
    with pytest.raises(DataError, match=r"cccc.parquet: is gone: it says which images"):
        week.decide("next", study_of())


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"image_shape": (16, 16, 1)}, r"takes images of \(16, 16, 1\), today's records hold \(8, 8, 1\)"),
        ({"classes": ("rose", "tulip")}, "knows none of today's classes"),
    ],
)
def test_the_champion_of_another_data_set_is_refused(
    week: Week, fields: dict[str, object], told: str
) -> None:
    week.champion(**fields)
    with pytest.raises(DataError, match=told):
        week.decide("next", study_of())


def test_data_that_has_shrunk_fails_the_run(week: Week) -> None:
    week.champion(images={"train": 2_000, "validation": 200, "test": 200}, code_version="another")
    with pytest.raises(DataError, match=r"1797 images, the champion's data had 2400: more than 0.2 of them"):
        week.decide("next", study_of())
    (run,) = retraining_runs(week.root, "weekly")
    assert (run.outcome, run.decision.trains) == ("shrunk", False)
    assert week.timelines("next") == 2
    (notice,) = read_notices(run_folder(week.root, "next"))
    assert (notice.event, notice.subject) == ("optduel.data.late", "weekly")
    assert week.decide("again", study_of("retraining.largest_shrink=0.3")).word == "train"


def test_data_that_is_late_fails_the_run(week: Week) -> None:
    week.champion(time="2026-11-02T06:00:00+00:00")
    assert week.decide("patient", study_of()).word == "skip"
    late = "retraining.late_days=6"
    with pytest.raises(DataError, match=r"no new images for [0-9.e+]+ days, retraining.late_days allows 6"):
        week.decide("next", study_of(late))
    assert [run.outcome for run in retraining_runs(week.root, "weekly")] == ["late"]
    assert week.timelines("next") == 2
    assert week.decide("forced", study_of(late, "retraining.force=true")).word == "train"
    assert week.decide("allowed", study_of("retraining.late_days=1e6")).word == "skip"


def test_images_that_were_refused_before_they_won_count_from_when_they_were_first_seen(week: Week) -> None:
    champion = week.champion(time="2999-01-01T00:00:00+00:00")
    seen = RetrainingDecision(
        champion="weekly",
        run="earlier",
        time="2026-01-01T00:00:00+00:00",
        number=None,
        trains=True,
        reason="r",
        experiment="digits",
        fingerprint="f",
        data_fingerprint=champion.candidate.data_fingerprint,
        code_version="1",
        images=1797,
    )
    write_retraining_run(week.root, RetrainingRun(outcome="refused", reason="r", decision=seen))
    with pytest.raises(DataError, match="no new images"):
        week.decide("next", study_of("retraining.late_days=6"))


def test_the_page_loads_nothing_and_tells_the_changes(week: Week, tmp_path: Path) -> None:
    week.champion(code_version="<script>alert(1)</script>")
    week.decide("next", study_of())
    page = (tmp_path / "next" / "changes.html").read_text()
    assert "<script" not in page
    assert "the code has changed from &lt;script&gt;" in page
    assert "change 1 of the champion" in page
