"""How large a run becomes as an Argo Workflow: by compiling, and by Kubeflow Pipelines' rules as recorded."""

from typing import Any

import pytest
import yaml

from optduel.components.core import ExperimentError
from optduel.pipeline.cli.shipped import load_deployment, load_experiment
from optduel.pipeline.graph.definition import compiled
from optduel.pipeline.graph.sizes import LIMIT_BYTES, seeds_in_words
from tests.cluster.kfp_argo import dense, packed
from tests.cluster.kfp_workflow import Workflow
from tests.cluster.recorded import answer, nodes_of, workflow

RUN = "4c645329-56bc-49e3-8789-fe17ec33b5cb"
IMAGE = "registry.example/optduel@sha256:" + "0" * 64

PACKED = 1.3
"""The real server's packed nodes take so much more than the double's, whose times and loads are regular."""


def arms(count: int) -> str:
    schedule = "{schedule: cosine, base: 0.1, warmup_epochs: 1}"
    one = "{name: arm-%d, optimizer: adamw, learning_rate: %s, weight_decay: 0.1}"
    return f"arms=[{','.join(one % (number, schedule) for number in range(count))}]"


def package(count: int, seeds: int, name: str = "trainjob", *settings: str) -> bytes:
    chosen = load_experiment("digits", ["tuning=null", arms(count), f"study.seeds={list(range(seeds))}"])
    return compiled(chosen, load_deployment(name, [f"image={IMAGE}", *settings]))


def finished(text: bytes | str) -> Workflow:
    """A run to its end."""
    pipeline, platform = yaml.load_all(text, yaml.CSafeLoader)
    seconds = iter(range(10**9))

    def now() -> str:
        second = next(seconds)
        return f"2026-11-28T{second // 3600 % 24:02d}:{second // 60 % 60:02d}:{second % 60:02d}Z"

    made = Workflow({"pipeline_spec": pipeline, "platform_spec": platform}, RUN, "optduel-digits-9t5qj", now)
    while made.phase not in ("Succeeded", "Failed"):
        made.step()
    return made


def kept_bytes(made: Workflow) -> float:
    """Of the Workflow, its nodes packed."""
    return len(dense(made.manifest()["spec"])) + PACKED * len(packed(made.nodes))


def test_the_double_is_as_large_as_the_real_one() -> None:
    made = finished(answer("run-six-seeds-v1beta1")["run"]["pipeline_spec"]["pipeline_manifest"])
    real = workflow("run-six-seeds")
    expected = nodes_of(real)

    def names(nodes: dict[str, Any]) -> list[str]:
        return sorted(node["name"].partition("(")[2] for node in nodes.values())

    assert names(made.nodes) == names(expected)
    assert len(dense(made.nodes)) == pytest.approx(len(dense(expected)), rel=0.06)
    assert len(dense(made.manifest()["spec"])) == pytest.approx(len(dense(real["spec"])), rel=0.06)
    assert PACKED * len(packed(made.nodes)) == pytest.approx(len(real["status"]["compressedNodes"]), rel=0.06)


@pytest.mark.parametrize(
    ("name", "count", "seeds", "per_trial"),
    [
        ("trainjob", 2, 6, 24_000),
        ("pod", 4, 40, 2_800),
        ("trainjob", 4, 100, 1_200),
        pytest.param("trainjob", 12, 100, 450, marks=pytest.mark.exhaustive),
    ],
)
def test_a_run_stays_below_half_of_argos_limit(name: str, count: int, seeds: int, per_trial: int) -> None:
    """Before, a trial took 27,000 bytes whatever their number, and some 40 of them all there is."""
    made = kept_bytes(finished(package(count, seeds, name, "alerts={secret_name: optduel-alerts}")))
    assert made < LIMIT_BYTES / 2
    assert made / (count * seeds) < per_trial


def test_what_cannot_fit_is_refused_with_the_remedy() -> None:
    with pytest.raises(ExperimentError) as raised:
        package(4, 100, "trainjob", "trials_at_once=20")
    told = str(raised.value)
    assert told.startswith("trials_at_once = 20: with 4 arms the run has 80 training tasks")
    assert "must stay below half: give at most 5, fewer arms or seeds" in told


@pytest.mark.parametrize(
    ("seeds", "told"),
    [([3], "seed 3"), ([0, 1, 2], "seeds 0-2"), ([0, 1, 7], "seeds 0-1,7"), ([9, 4], "seeds 9,4")],
)
def test_seeds_have_a_short_name(seeds: list[int], told: str) -> None:
    assert seeds_in_words(seeds) == told
