"""Champions: the model in use of each name, how it became that, and the only way to change it.

<root>/champions/<name>/
champion.json            the champion; moves by compare-and-swap
history/00000001.json    every change, one after the other; only ever added
models/<sha256>/         the model of each, with all that belongs to it
images/<fingerprint>.parquet     which images a data set holds
runs/<run>.json          what every retraining run came to
timeline.html            all of it as one page
"""

from optduel.components.champions.champion import (
    Candidate,
    Champion,
    champion_file,
    champion_folder,
    history_file,
    model_folder,
)
from optduel.components.champions.changing import (
    Held,
    change,
    complete_history,
    current,
    history,
    refuse_pinned,
)
from optduel.components.champions.images import ImageList, image_id, images_file, read_images, write_images
from optduel.components.champions.judgement import (
    ClassChange,
    Criterion,
    Judgement,
    RetrainingDecision,
    RetrainingRun,
    Standing,
    decision_file,
    gate_file,
    read_decision,
    read_judgement,
    read_retraining_run,
    retraining_run_file,
    retraining_runs,
    write_decision,
    write_judgement,
    write_retraining_run,
)
from optduel.components.champions.measurement import Measured, read_measured, write_measured
from optduel.components.champions.pages import render_page
from optduel.components.champions.selection import run_trials, select_candidate, trained_arms
from optduel.components.champions.timeline import story, tell_story

__all__ = [
    "ImageList",
    "image_id",
    "images_file",
    "read_images",
    "write_images",
    "Measured",
    "read_measured",
    "write_measured",
    "render_page",
    "run_trials",
    "select_candidate",
    "trained_arms",
    "story",
    "tell_story",
    "Criterion",
    "write_judgement",
    "decision_file",
    "write_decision",
    "read_decision",
    "RetrainingDecision",
    "ClassChange",
    "Judgement",
    "RetrainingRun",
    "Standing",
    "gate_file",
    "read_judgement",
    "read_retraining_run",
    "retraining_run_file",
    "retraining_runs",
    "write_retraining_run",
    "Candidate",
    "Champion",
    "Held",
    "champion_file",
    "champion_folder",
    "change",
    "complete_history",
    "current",
    "history",
    "history_file",
    "model_folder",
    "refuse_pinned",
]
