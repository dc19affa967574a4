"""Experiments and deployments from any text: a value, or ExperimentError; nothing else."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from optduel.components.core import ExperimentError, decode_termination
from optduel.components.core.errors import _encode
from optduel.components.settings import Experiment, decode, load_fields, parse_deployment, parse_experiment
from tests.mutations import changed_json, mutated, only

INPUTS = 200
"""Of each test."""

EXPERIMENTS = Path(__file__).parents[2] / "pipeline" / "experiments"
DIGITS = (EXPERIMENTS / "digits.yaml").read_bytes()
DEPLOYMENT = (
    b"image: i:1\nroot: gs://b/o\nenvironment: {A: b}\nsecrets: [{name: s, variables: {k: V}}]\njob: {}\n"
)
CANONICAL = parse_experiment(DIGITS.decode(), "digits").canonical_json().encode()
TERMINATION = _encode("train", ExperimentError("a = b: c"), "a = b: c", {"worker": 1, "step": 2})


@given(content=mutated(DIGITS) | changed_json(CANONICAL))
@settings(max_examples=INPUTS)
def test_an_experiment_file(content: bytes) -> None:
    text = content.decode(errors="surrogateescape")
    only(ExperimentError, lambda: parse_experiment(text, "mine").fingerprint)


@given(content=mutated(DEPLOYMENT))
@settings(max_examples=INPUTS)
def test_a_deployment_file(content: bytes) -> None:
    text = content.decode(errors="surrogateescape")

    def read() -> bytes:
        return parse_deployment([load_fields(text, "mine", "a deployment")], "mine").canonical_json().encode()

    only(ExperimentError, read)


@given(content=mutated(CANONICAL) | changed_json(CANONICAL))
@settings(max_examples=INPUTS)
def test_an_experiment_s_json(content: bytes) -> None:
    only(ExperimentError, lambda: decode(Experiment, content, "experiment").fingerprint)


PARTS = ["data", "source", "arms", "adamw", "0", "9" * 5000, "\N{SUPERSCRIPT TWO}", "-1", "", "title"]
PATHS = st.lists(st.sampled_from(PARTS) | st.text(), max_size=5).map(".".join)
VALUES = st.text(max_size=30) | st.sampled_from(["[" * 400, "{a: 1}", "&a [*a]", "!!int x", "1e999"])


@given(path=PATHS, value=VALUES)
@settings(max_examples=INPUTS)
def test_an_assignment(path: str, value: str) -> None:
    text = DIGITS.decode()
    only(ExperimentError, lambda: parse_experiment(text, "digits", [f"{path}={value}"]).fingerprint)


@given(content=mutated(TERMINATION) | changed_json(TERMINATION))
@settings(max_examples=INPUTS)
def test_a_termination_message(content: bytes) -> None:
    """Whatever a file or a pod holds: a report, or none."""
    told = decode_termination(content)
    assert told is None or str(told.error).encode() is not None
    decode_termination(content.decode(errors="surrogateescape"))


@pytest.mark.parametrize("content", [b'{"error": []}', b'{"error": "DataError", "message": 1}', b"[" * 9999])
def test_what_looks_like_a_termination_message(content: bytes) -> None:
    assert decode_termination(content) is None
