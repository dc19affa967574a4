"""A champion in Kubeflow's Model Registry: a version with all lineage and its artifact, and which one it is.

With OPTDUEL_TEST_MODEL_REGISTRY, the address of a real server, the story is told there, too.
"""

import json
import os
import urllib.parse
import urllib.request
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from optduel.components.champions import Champion
from optduel.components.core import RefusedError, StorageError
from optduel.components.promote.registry import register
from optduel.components.settings import Registry
from tests.champions.conftest import candidate_of
from tests.promote.model_registry import BASE, ModelRegistry, model_registry

REAL = os.environ.get("OPTDUEL_TEST_MODEL_REGISTRY")  # before the environment is cleaned
RECORDED = json.loads((Path(__file__).parent / "recordings" / "model_registry.json").read_text())


@pytest.fixture
def double() -> Iterator[ModelRegistry]:
    with model_registry() as registry:
        yield registry


@pytest.fixture(params=["double", "real"])
def address(request: pytest.FixtureRequest, double: ModelRegistry) -> str:
    if request.param == "double":
        return double.address
    if REAL is None:
        pytest.skip("OPTDUEL_TEST_MODEL_REGISTRY names no server")
    return REAL


def champion_of(tmp_path: Path, address: str, number: int, model: str = "flowers") -> Champion:
    candidate = candidate_of(str(tmp_path), f"run-{number}", str(number).encode())
    place = f"minio://bucket/champions/weekly/models/{candidate.model_sha256}/model.keras"
    return Champion(
        name="weekly",
        number=number,
        action="promoted",
        time="2026-11-02T06:00:00+00:00",
        by=f"run run-{number}",
        reason="better",
        candidate=candidate.model_copy(update={"model": place}),
        predecessor=number - 1 or None,
        registry=Registry(kind="kubeflow", address=address, model=model),
    )


def ask(address: str, path: str, query: dict[str, str] | None = None, body: Any = None) -> Any:
    place = f"{address}{BASE}{path}" + (f"?{urllib.parse.urlencode(query)}" if query else "")
    request = urllib.request.Request(place, method="GET" if body is None else "PATCH")
    if body is not None:
        request.data = json.dumps(body).encode()
        request.add_header("Content-Type", "application/json")
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer)


def timeless(document: Any) -> Any:
    return {key: value for key, value in document.items() if not key.endswith("SinceEpoch")}


def test_the_double_answers_as_the_real_server_was_recorded(double: ModelRegistry) -> None:
    for one in RECORDED["exchanges"]:
        query = f"?{urllib.parse.urlencode(one['query'])}" if one["query"] else ""
        status, told = double.answer(one["method"], f"{BASE}{one['path']}{query}", one["body"])
        assert (status, timeless(told)) == (one["status"], timeless(one["answer"])), one


def test_the_property_follows_the_champion_and_versions_hold_the_lineage(
    address: str, tmp_path: Path
) -> None:
    model = f"flowers in the shop {uuid.uuid4().hex}"
    first, second = (champion_of(tmp_path, address, number, model) for number in (1, 2))
    register(first)
    found = ask(address, "registered_model", {"name": model})
    others = {"team": {"metadataType": "MetadataStringValue", "string_value": "shop"}}
    theirs = {"customProperties": found["customProperties"] | others}
    ask(address, f"registered_models/{found['id']}", body=theirs)
    register(first)  # after a kill
    register(second)
    found = ask(address, "registered_model", {"name": model})
    champion = found["customProperties"]["champion"]["string_value"]
    assert champion == f"run-2-{second.candidate.model_sha256[:12]}"
    assert found["customProperties"]["team"] == others["team"], "other people's properties stay"
    version = ask(address, "model_version", {"name": champion, "parentResourceId": found["id"]})
    lineage = {name: value["string_value"] for name, value in version["customProperties"].items()}
    assert lineage["optduel.run"] == "run-2"
    assert lineage["optduel.data_fingerprint"] == "d" * 64
    assert json.loads(lineage["optduel.settings"])["weight_decay"] == 0.1
    artifact = ask(address, "model_artifact", {"name": champion, "parentResourceId": version["id"]})
    folder = second.candidate.model.removesuffix("/model.keras").replace("minio://", "s3://")
    assert artifact["uri"] == f"{folder}/saved_model"
    assert artifact["modelSourceId"] == "run-2"
    register(first.model_copy(update={"number": 3, "action": "rolled back"}))
    back = ask(address, "registered_model", {"name": model})["customProperties"]["champion"]["string_value"]
    assert back == f"run-1-{first.candidate.model_sha256[:12]}", "the same model is the same version"


@pytest.mark.parametrize("requests", range(7))
def test_an_attempt_whose_answer_was_lost_is_completed(
    double: ModelRegistry, tmp_path: Path, requests: int
) -> None:
    double.fails_after = requests
    champion = champion_of(tmp_path, double.address, 1)
    with pytest.raises(StorageError, match="HTTP 500: lost"):
        register(champion)
    double.fails_after = None
    register(champion)
    model = ask(double.address, "registered_model", {"name": "flowers"})
    name = model["customProperties"]["champion"]["string_value"]
    version = ask(double.address, "model_version", {"name": name, "parentResourceId": model["id"]})
    ask(double.address, "model_artifact", {"name": name, "parentResourceId": version["id"]})


def test_two_at_once_make_one_version(double: ModelRegistry, tmp_path: Path) -> None:
    champion = champion_of(tmp_path, double.address, 1)
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(register, [champion] * 8))
    model = ask(double.address, "registered_model", {"name": "flowers"})
    assert model["customProperties"]["champion"]["string_value"].startswith("run-1-")


def test_a_token_is_sent_and_a_refusal_has_the_servers_words(
    double: ModelRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    champion = champion_of(tmp_path, double.address, 1)
    register(champion)
    assert set(double.authorizations) == {None}
    monkeypatch.setenv("MODEL_REGISTRY_TOKEN", "canary")
    double.authorizations.clear()
    register(champion)
    assert set(double.authorizations) == {"Bearer canary"}
    double.answer = lambda *_: (403, {"code": "Forbidden", "message": "not you"})  # type: ignore[method-assign]
    with pytest.raises(RefusedError, match=r"registered_model: HTTP 403: not you; check .*TOKEN") as caught:
        register(champion)
    assert "canary" not in str(caught.value)


def test_what_is_no_model_registry_is_told(double: ModelRegistry, tmp_path: Path) -> None:
    champion = champion_of(tmp_path, double.address, 1)
    double.answer = lambda *_: (200, {"items": []})  # type: ignore[method-assign]
    with pytest.raises(StorageError, match="the registry's answer has no id; is it a Kubeflow Model"):
        register(champion)
