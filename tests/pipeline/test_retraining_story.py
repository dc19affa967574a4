"""Four weeks of a folder of images: promoted, skipped, retrained, poisoned and refused, and rolled back.

The graph is the one that is compiled for a cluster; here KFP's local runner executes it.
"""

import json
import sys
from collections.abc import Iterator

import pytest

from optduel.components.champions import current, history, retraining_runs
from optduel.components.results import task_costs
from optduel.components.storage import delete, join, read, stat
from optduel.pipeline.cli.command_line import main
from tests.pipeline.weeks import Story
from tests.servers import stores
from tests.tell.receivers import CANARY, receiving


@pytest.fixture(
    scope="module",
    params=["local", *(pytest.param(kind, marks=pytest.mark.exhaustive) for kind in ("s3", "gs"))],
)
def story(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, forking_python: str
) -> Iterator[Story]:
    folder = tmp_path_factory.mktemp("story")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "executable", forking_python)
        root = str(folder / "root")
        if request.param != "local":
            patch.setenv("AWS_ACCESS_KEY_ID", stores.ACCESS_KEY)
            patch.setenv("AWS_SECRET_ACCESS_KEY", stores.SECRET_KEY)
            variable, url = {
                "gs": ("STORAGE_EMULATOR_HOST", "fake_gcs_url"),
                "s3": ("AWS_ENDPOINT_URL_S3", "seaweedfs_url"),
            }[request.param]
            patch.setenv(variable, request.getfixturevalue(url))
            root = f"{request.param}://{stores.BUCKET}/story"
        yield Story(folder / "photos", root)


@pytest.mark.slow
def test_four_weeks(story: Story) -> None:
    story.deliver(0, 900)
    code, said = story.run("first")
    assert code == 0, said
    assert story.weeks["first"]["retraining"]["outcome"] == "promoted"
    first = story.champion()
    assert first[0] == 1
    assert story.events("first") == ["optduel.champion.promoted"]

    code, said = story.run("same")
    assert code == 0, said
    same = story.weeks["same"]["retraining"]
    assert (same["outcome"], same["judgement"]) == ("skipped", None)
    assert "skipped: nothing has changed since run" in said
    assert "train adamw" not in said, "nothing is trained"
    assert story.champion() == first
    assert story.events("same") == ["optduel.run.skipped"]

    story.deliver(900, 1500)
    code, said = story.run("more")
    assert code == 0, said
    more = story.weeks["more"]["retraining"]
    assert more["outcome"] == "promoted", more["reason"]
    judgement = more["judgement"]
    assert judgement["number"] == 1
    assert judgement["seen_images"] > 0, "the split has moved: old training images are test images now"
    assert judgement["judged_images"] == judgement["test_images"] - judgement["seen_images"]
    assert more["decision"]["reason"].startswith("images have changed (180 added, 0 removed, 0 relabelled)")
    second = story.champion()
    assert second[0] == 2
    costs = {cost.task for cost in task_costs(story.root, more["decision"]["run"])}
    assert costs == {"prepare", "decide", "train", "evaluate", "evaluate champion", "gate", "promote"}
    assert more["cost"]["processor_seconds"] > same["cost"]["processor_seconds"] > 0

    story.deliver(0, 1797, shuffled=True)
    with receiving() as receiver:
        code, said = story.run("poisoned", receiver.webhook)
    assert code == 0, said
    assert receiver.events == ["optduel.gate.refused"]
    assert CANARY not in said
    poisoned = story.weeks["poisoned"]["retraining"]
    assert poisoned["outcome"] == "refused"
    assert sum(one["relabelled"] for one in poisoned["decision"]["classes"]) > 100
    assert story.champion() == second
    assert story.events("poisoned") == ["optduel.gate.refused"]
    refused = [one["name"] for one in poisoned["judgement"]["criteria"] if not one["passed"]]
    assert "accuracy" in refused

    assert main(["champion", "rollback", "weekly", "--root", story.root, "--by", "ann", "--reason", "r"]) == 0
    assert story.champion() == (3, first[1])
    assert [one.action for one in history(story.root, "weekly")] == ["promoted", "promoted", "rolled back"]
    refused_run = story.weeks["poisoned"]["run"].rpartition("/")[2]
    by_hand = ["--root", story.root, "--by", "ann", "--reason", "labels were right"]
    assert main(["champion", "promote", "weekly", refused_run, *by_hand]) == 0
    held = current(story.root, "weekly")
    assert held is not None
    champion = held.champion
    assert (champion.action, champion.by, champion.reason) == ("overridden", "ann", "labels were right")
    assert champion.candidate.run == refused_run
    # With which the next week's images are compared.
    assert champion.candidate.copies is not None
    assert champion.candidate.originals.formats
    assert main(["champion", "rollback", "weekly", *by_hand]) == 0
    assert story.champion() == (5, first[1])
    outcomes = [run.outcome for run in retraining_runs(story.root, "weekly")]
    assert outcomes == ["promoted", "skipped", "promoted", "refused"]


@pytest.mark.slow
def test_the_champion_is_walked_back_to_its_images(story: Story, capsys: pytest.CaptureFixture[str]) -> None:
    """After the four weeks, whose last one has replaced the images of the others."""
    assert main(["lineage", "weekly", "--root", story.root, "--json"]) == 0
    (first,) = json.loads(capsys.readouterr().out)
    assert first["lineage"]["run"] == story.champion()[1]
    assert first["lineage"]["parents"] == []
    assert sum(first["lineage"]["images"].values()) == 272
    assert {one["what"] for one in first["findings"]} == {
        "images, data.source.path",
        "records",
        "model of adamw, seed 0",
        "model of adamw, seed 1",
    }
    second = story.weeks["more"]["run"].rpartition("/")[2]
    assert main(["lineage", second, "--root", story.root]) == 0
    told = capsys.readouterr().out
    assert f"there    champion weekly at change 1, of run {story.champion()[1]}" in told
    assert told.count("records:") == 2, "those of the run, and those of its parent"
    manifest = json.loads(read(join(story.weeks["first"]["run"], "lineage.json")))["records"]
    delete(join(manifest, "manifest.json"))
    assert main(["lineage", "weekly", "--root", story.root]) == 1
    assert f"gone     records: {manifest}" in capsys.readouterr().out
    assert main(["lineage", "nothing", "--root", story.root]) == 2
    assert "nothing: no lineage.json beside it or above it" in capsys.readouterr().err


@pytest.mark.slow
def test_every_run_leaves_its_pages(story: Story) -> None:
    """After the four weeks."""
    pages = {
        "first": ("changes.html", "gate.html", "timeline.html", "records.html"),
        "same": ("changes.html", "timeline.html", "records.html"),
        "poisoned": ("changes.html", "gate.html", "timeline.html", "records.html"),
    }
    for week, names in pages.items():
        for name in names:
            page = read(join(story.weeks[week]["run"], name)).decode()
            assert "<html" in page
            assert "<script" not in page
            assert "http" not in page.replace("http-equiv", "")
    timeline = read(join(story.root, "champions", "weekly", "timeline.html")).decode()
    for week in story.weeks.values():
        assert week["run"].rpartition("/")[2] in timeline
    assert stat(join(story.weeks["same"]["run"], "gate.json")) is None


@pytest.mark.slow
def test_a_report_is_that_of_a_comparison(story: Story, capsys: pytest.CaptureFixture[str]) -> None:
    """After the four weeks, on this machine and as a cluster leaves them."""
    for kept in (True, False):
        place = story.weeks["first"]["run"]
        if not kept:
            delete(join(place, "run.json"))
        assert main(["report", place]) == 2
        assert capsys.readouterr().err == (
            f"optduel: error: {place}: retrained the champion weekly, and compared no arms; "
            f"`optduel champion history weekly --root {story.root}` tells what came of it\n"
        )
