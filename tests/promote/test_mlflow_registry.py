"""A champion in MLflow's own server: a version with all lineage, and the alias that moves."""

import json
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from optduel.components.champions import Champion
from optduel.components.core import ExperimentError, RefusedError, StorageError
from optduel.components.promote.registry import register
from optduel.components.settings import Registry
from optduel.pipeline.cli.shipped import load_experiment
from tests.champions.conftest import candidate_of
from tests.servers.starting import free_ports, started

START_SECONDS = 300
"""It makes its tables first, and a busy machine takes minutes."""

PYTHON = Path(__file__).parents[2] / ".venv" / "mlflow" / "bin" / "python"


@pytest.fixture(scope="module")
def mlflow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """MLflow's server, of `make mlflow`, as one process, which a kill ends whole."""
    if not PYTHON.is_file():
        pytest.skip("no MLflow server: make mlflow")
    folder = tmp_path_factory.mktemp("mlflow")
    (port,) = free_ports(1)
    address = f"http://127.0.0.1:{port}"
    command = [str(PYTHON), "-m", "uvicorn", "mlflow.server.fastapi_app:app", "--port", str(port)]
    with pytest.MonkeyPatch.context() as patch:
        # What `mlflow server` sets for it.
        patch.setenv("_MLFLOW_SERVER_FILE_STORE", f"sqlite:///{folder}/mlflow.db")
        patch.setenv("_MLFLOW_SERVER_ARTIFACT_ROOT", str(folder / "artifacts"))
        patch.setenv("MLFLOW_SERVER_ENABLE_JOB_EXECUTION", "false")
        with started(command, f"{address}/health", folder / "mlflow.log", START_SECONDS):
            yield address


def ask(address: str, path: str) -> Any:
    with urllib.request.urlopen(f"{address}/api/2.0/mlflow/{path}", timeout=30) as answer:
        return json.load(answer)


def champion_of(tmp_path: Path, address: str, number: int) -> Champion:
    candidate = candidate_of(str(tmp_path), f"run-{number}", str(number).encode())
    place = f"s3://bucket/champions/weekly/models/{candidate.model_sha256}/model.keras"
    return Champion(
        name="weekly",
        number=number,
        action="promoted",
        time="2026-11-02T06:00:00+00:00",
        by=f"run run-{number}",
        reason="better",
        candidate=candidate.model_copy(update={"model": place}),
        predecessor=number - 1 or None,
        registry=Registry(address=address, model="flowers in the shop"),
    )


@pytest.mark.exhaustive
def test_the_alias_follows_the_champion_and_versions_hold_the_lineage(mlflow: str, tmp_path: Path) -> None:
    first, second = (champion_of(tmp_path, mlflow, number) for number in (1, 2))
    register(first)
    register(first)  # after a kill
    register(second)
    found = ask(mlflow, "registered-models/alias?name=flowers%20in%20the%20shop&alias=champion")
    version = found["model_version"]
    assert version["version"] == "2"
    assert version["source"] == second.candidate.model.removesuffix("/model.keras")
    tags = {tag["key"]: tag["value"] for tag in version["tags"]}
    assert tags["optduel.run"] == "run-2"
    assert tags["optduel.model_sha256"] == second.candidate.model_sha256
    assert tags["optduel.data_fingerprint"] == "d" * 64
    assert json.loads(tags["optduel.settings"])["weight_decay"] == 0.1
    assert tags["optduel.lineage"].endswith("/lineage.json")
    back = first.model_copy(update={"number": 3, "action": "rolled back"})
    register(back)
    found = ask(mlflow, "registered-models/alias?name=flowers%20in%20the%20shop&alias=champion")
    assert found["model_version"]["version"] == "1", "the same model is the same version"


def test_what_is_no_mlflow_is_told(tmp_path: Path) -> None:
    (port,) = free_ports(1)
    with pytest.raises(StorageError, match=r"registered-models/create: does not answer as MLflow does"):
        register(champion_of(tmp_path, f"http://127.0.0.1:{port}", 1))


@pytest.mark.exhaustive
def test_a_refusal_is_told_with_the_servers_words(mlflow: str, tmp_path: Path) -> None:
    champion = champion_of(tmp_path, mlflow, 1)
    local = champion.candidate.model_copy(update={"model": "/somewhere/model.keras"})
    other = Registry(address=mlflow, model="elsewhere")
    with pytest.raises(RefusedError, match=r"model-versions/create: HTTP 400: .*; check retraining.registry"):
        register(champion.model_copy(update={"candidate": local, "registry": other}))


def test_an_address_with_a_password_is_refused() -> None:
    address = "@".join(["https://ann:canary", "mlflow"])
    with pytest.raises(ExperimentError) as caught:
        load_experiment(
            "digits", [f"retraining={{champion: c, registry: {{address: '{address}', model: m}}}}"]
        )
    assert "holds credentials" in str(caught.value)
    assert "canary" not in str(caught.value)
