"""Candidates without training: a model is any file here."""

import hashlib
from collections.abc import Callable

import pytest

from optduel.components.champions import Candidate
from optduel.components.results import Interval
from optduel.components.settings import AdamwArm, ConstantSchedule
from optduel.components.storage import join, publish

MakeCandidate = Callable[..., Candidate]


def candidate_of(root: str, run: str, content: bytes) -> Candidate:
    """A candidate whose model is published below the root, as a run does it."""
    place = join(root, "runs", run, "model.keras")
    publish(place, content)
    return Candidate(
        run=run,
        experiment="digits",
        fingerprint="f" * 64,
        data_fingerprint="d" * 64,
        code_version="1",
        arm=AdamwArm(
            name="adamw",
            weight_decay=0.1,
            learning_rate=ConstantSchedule(schedule="constant", base=0.01),
        ),
        seed=0,
        model=place,
        model_sha256=hashlib.sha256(content).hexdigest(),
        classes=("rose", "tulip"),
        image_shape=(8, 8, 1),
        images={"train": 80, "validation": 10, "test": 10},
        examples=10,
        accuracy=Interval(value=0.9, low=0.8, high=1),
        cross_entropy=Interval(value=0.3, low=0.2, high=0.4),
        macro_f1=0.9,
        calibration_error=0.05,
    )


@pytest.fixture(params=["local", "s3", pytest.param("gs", marks=pytest.mark.exhaustive)])
def store(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> str:
    """A root in every kind of store, without a proxy that might hold back what a dying writer sent."""
    if request.param == "local":
        return str(tmp_path_factory.mktemp("root"))
    place = request.getfixturevalue("place_of")(request.param)
    name = "STORAGE_EMULATOR_HOST" if request.param == "gs" else "AWS_ENDPOINT_URL_S3"
    monkeypatch.setenv(name, place.proxy.upstream)
    return str(place.root)
