"""Weeks of a folder of images whose tasks are containers, with root's own changes of the champion in between.

The images' user has to go on with what root has written, and root with what that user has.
"""

from pathlib import Path

import pytest

from optduel.components.champions import champion_folder, history, retraining_runs
from optduel.pipeline.cli.command_line import main
from tests.pipeline.weeks import Story


@pytest.mark.exhaustive
@pytest.mark.slow
@pytest.mark.timeout(3600)  # thirty containers, each of which loads its libraries from the image
def test_weeks_in_containers(
    docker_host: str, image: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_HOST", docker_host)
    story = Story(tmp_path / "photos", str(tmp_path / "root"), ("--image", image))
    by_hand = ["weekly", "--root", story.root, "--by", "ann", "--reason", "r"]

    story.deliver(0, 900)
    code, said = story.run("first")
    assert code == 0, said
    assert story.weeks["first"]["retraining"]["outcome"] == "promoted"
    first = story.champion()

    code, said = story.run("same")
    assert code == 0, said
    assert story.weeks["same"]["retraining"]["outcome"] == "skipped"

    assert main(["champion", "pin", *by_hand]) == 0
    assert main(["champion", "pin", *by_hand, "--release"]) == 0

    story.deliver(900, 1500)
    code, said = story.run("more")
    assert code == 0, said
    more = story.weeks["more"]["retraining"]
    assert more["outcome"] == "promoted", more["reason"]
    assert more["judgement"]["seen_images"] > 0

    story.deliver(0, 1797, shuffled=True)
    code, said = story.run("poisoned")
    assert code == 0, said
    assert story.weeks["poisoned"]["retraining"]["outcome"] == "refused"
    assert story.champion()[1] == more["decision"]["run"]

    assert main(["champion", "rollback", *by_hand]) == 0
    assert story.champion()[1] == first[1]
    actions = [one.action for one in history(story.root, "weekly")]
    assert actions == ["promoted", "pinned", "released", "promoted", "rolled back"]

    for photo in story.photos.rglob("*.png"):
        if int(photo.stem) >= 600:
            photo.unlink()
    code, said = story.run("shrunk")
    assert code == 2, said
    runs = retraining_runs(story.root, "weekly")
    assert [run.outcome for run in runs] == ["promoted", "skipped", "promoted", "refused", "shrunk"]
    timeline = Path(champion_folder(story.root, "weekly"), "timeline.html").read_text()
    assert all(run.decision.run in timeline for run in runs)
