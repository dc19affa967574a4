"""Submitting by the command, through the real kfp.Client, to a server that keeps what it is given."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from optduel.pipeline.cli.command_line import main
from optduel.pipeline.cli.shipped import load_deployment, load_experiment
from optduel.pipeline.kfp.submission import authored_of, prepare
from tests.cluster.kfp_requests import Request
from tests.cluster.kfp_server import KfpServer

IMAGE = "registry.example/optduel@sha256:" + "0" * 64
DIGITS = ("digits", "--image", IMAGE, "--set", "study.seeds=[0,1]")


pytestmark = pytest.mark.usefixtures("compiled_once")


@pytest.fixture
def kfp() -> Iterator[KfpServer]:
    with KfpServer() as server:
        yield server


@pytest.fixture(autouse=True)
def no_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("ENDPOINT", "UI_ENDPOINT", "SA_TOKEN_PATH"):
        monkeypatch.delenv(f"KF_PIPELINES_{name}", raising=False)
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = main(arguments)
    captured = capsys.readouterr()
    assert "Traceback" not in captured.err
    return code, captured.out, captured.err


def submit(capsys: pytest.CaptureFixture[str], kfp: KfpServer, *arguments: str) -> dict[str, Any]:
    code, out, err = run(capsys, "submit", *DIGITS, "--host", kfp.url, "--json", *arguments)
    assert code == 0, err
    answer: dict[str, Any] = json.loads(out)
    return answer


def test_a_long_description_is_cut_where_the_servers_database_has_no_room() -> None:
    title = "A title. " * 40
    experiment = load_experiment("digits", [f"title={title!r}", "study.seeds=[0,1]"])
    submission = prepare(experiment, load_deployment("pod", [f"image={IMAGE}"]), {"experiment": "digits"})
    assert len(submission.about) == 255
    assert submission.about.endswith("...")
    assert authored_of(submission.description) == {"experiment": "digits"}
    assert authored_of(submission.about) is None
    assert authored_of(f"{submission.about}\nauthored: no JSON") is None


def test_a_run_of_the_compiled_version_is_created(
    kfp: KfpServer, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    answer = submit(capsys, kfp)
    (pipeline,), (version,) = kfp.pipelines.values(), kfp.versions.values()
    (experiment,), (started,) = kfp.experiments.values(), kfp.runs.values()
    assert pipeline["name"] == experiment["display_name"] == "optduel-digits"
    assert started["experiment_id"] == experiment["experiment_id"]
    assert started["pipeline_version_reference"] == {
        "pipeline_id": pipeline["pipeline_id"],
        "pipeline_version_id": version["pipeline_version_id"],
    }
    assert started["runtime_config"]["pipeline_root"] == "minio://mlpipeline/optduel/pipelines"
    assert set(started["runtime_config"]["parameters"]) == {"root", "fingerprint", "image"}
    assert started["runtime_config"]["parameters"]["image"] == IMAGE
    for described in (pipeline, experiment, version, started):
        assert "Compares sgd-l2 (sgd), adamw (adamw) on digits: 2 paired seeds" in (described["description"])
    assert IMAGE in version["description"]
    assert version["name"].startswith("2-seeds-10-epochs-pod-")
    compiled = tmp_path / "digits.yaml"
    run(capsys, "compile", *DIGITS, "--output", str(compiled))
    documents = list(yaml.load_all(compiled.read_text(), yaml.CSafeLoader))
    assert version["pipeline_spec"] == {"pipeline_spec": documents[0], "platform_spec": documents[1]}
    assert answer["run_id"] == started["run_id"]
    assert answer["version"] == version["name"]
    assert answer["address"] == f"{kfp.url}/#/runs/details/{started['run_id']}"


def test_the_answer_is_the_runs_address_and_nothing_of_the_clients_chatter(
    kfp: KfpServer, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = run(capsys, "submit", *DIGITS, "--host", kfp.url)
    (started,) = kfp.runs.values()
    assert code == 0
    assert out == f"address: {kfp.url}/#/runs/details/{started['run_id']}\n"
    assert [line.partition(":")[0] for line in err.splitlines()] == ["caution", "run", "version"]


def test_an_equal_version_is_used_again_and_another_image_or_root_makes_another(
    kfp: KfpServer, capsys: pytest.CaptureFixture[str]
) -> None:
    first, again = submit(capsys, kfp), submit(capsys, kfp)
    assert first["version"] == again["version"]
    assert (len(kfp.versions), len(kfp.runs)) == (1, 2)
    other = submit(capsys, kfp, "--image", "registry.example/optduel:2")
    elsewhere = submit(capsys, kfp, "--root", "gs://bucket/optduel")
    assert len({first["version"], other["version"], elsewhere["version"]}) == 3
    fingerprints = {one["version"].rpartition("-")[0] for one in (first, other, elsewhere)}
    assert len(fingerprints) == 1
    assert (len(kfp.pipelines), len(kfp.experiments), len(kfp.versions)) == (1, 1, 3)


def test_somebody_who_submits_the_same_at_the_same_moment_does_no_harm(
    kfp: KfpServer, capsys: pytest.CaptureFixture[str]
) -> None:
    def be_faster(request: Request) -> None:
        match request.method, request.path.rpartition("/")[2]:
            case "POST", "pipelines" if not kfp.pipelines:
                kfp._create_pipeline(request.body)
            case "POST", "upload_version" if not kfp.versions:
                kfp._upload_version(request)
            case "POST", "experiments" if not kfp.experiments:
                kfp._create_experiment(request.body)

    kfp.before = be_faster
    submit(capsys, kfp)
    assert len(kfp.sent("POST", "/pipelines")) == len(kfp.sent("POST", "/upload_version")) == 1
    assert [len(kept) for kept in (kfp.pipelines, kfp.versions, kfp.experiments, kfp.runs)] == [1, 1, 1, 1]


def test_a_version_among_many_is_found_page_by_page(
    kfp: KfpServer, capsys: pytest.CaptureFixture[str]
) -> None:
    kfp.largest_page = 1
    for number in range(3):
        submit(capsys, kfp, "--image", f"i:{number}")
    submit(capsys, kfp, "--image", "i:0")
    assert len(kfp.versions) == 3


def test_a_dry_run_contacts_nobody_and_shows_what_would_be_sent(
    kfp: KfpServer, capsys: pytest.CaptureFixture[str]
) -> None:
    _, out, _ = run(capsys, "submit", *DIGITS, "--host", kfp.url, "--dry-run", "--json")
    assert kfp.requests == []
    plan = json.loads(out)
    submit(capsys, kfp)
    sent = [one for one in kfp.requests if one.method == "POST"]
    assert [one["path"] for one in plan["requests"]] == [one.path for one in sent]
    (version,), (started,) = kfp.versions.values(), kfp.runs.values()
    known = {
        "<pipeline_id>": version["pipeline_id"],
        "<pipeline_version_id>": version["pipeline_version_id"],
        "<experiment_id>": started["experiment_id"],
    }
    for planned, made in zip(plan["requests"], sent, strict=True):
        text = json.dumps([planned["body"], planned.get("query")])
        for name, value in known.items():
            text = text.replace(name, value)
        body, query = json.loads(text)
        if query is not None:
            assert made.query == query
            assert plan["uploadfile"].encode() in made.body
            continue
        if "run" in made.path.rpartition("/")[2]:
            body["display_name"] = made.body["display_name"]  # it ends in the time
        assert made.body == body


def test_a_dry_run_is_readable_too(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, "submit", *DIGITS, "--dry-run")
    assert code == 0
    requests, _, package = out.partition("# PIPELINE DEFINITION")
    assert [line.partition("?")[0] for line in requests.splitlines() if line.startswith("POST")] == [
        "POST /apis/v2beta1/pipelines",
        "POST /apis/v2beta1/pipelines/upload_version",
        "POST /apis/v2beta1/experiments",
        "POST /apis/v2beta1/runs",
    ]
    assert len(list(yaml.load_all(package, yaml.CSafeLoader))) == 2
    assert "\nnothing was sent" in err


def test_a_profiles_namespace_goes_into_every_request_that_has_a_place_for_it(
    kfp: KfpServer, capsys: pytest.CaptureFixture[str]
) -> None:
    kfp.multi_user = True
    submit(capsys, kfp, "--namespace", "team")
    (pipeline,), (experiment,) = kfp.pipelines.values(), kfp.experiments.values()
    assert pipeline["namespace"] == experiment["namespace"] == "team"
    assert kfp.sent("GET", "/experiments")[0].query["namespace"] == "team"


def test_a_profile_has_to_be_named(kfp: KfpServer, capsys: pytest.CaptureFixture[str]) -> None:
    kfp.multi_user = True
    code, _, err = run(capsys, "submit", *DIGITS, "--host", kfp.url)
    assert code == 2
    assert err.endswith("optduel: error: --namespace: is required: this Kubeflow has profiles; give yours\n")


def test_where_nobody_has_a_profile_a_namespace_is_not_sent(
    kfp: KfpServer, capsys: pytest.CaptureFixture[str]
) -> None:
    submit(capsys, kfp, "--namespace", "kubeflow")
    assert "namespace" not in next(iter(kfp.pipelines.values()))


def test_the_token_comes_from_a_file_and_the_cookie_too(
    kfp: KfpServer, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kfp.token, kfp.cookie = "right", "authservice_session=abc"
    (tmp_path / "token").write_text("right\n")
    (tmp_path / "cookie").write_text("authservice_session=abc\n")
    submit(capsys, kfp, "--token-file", str(tmp_path / "token"), "--cookie-file", str(tmp_path / "cookie"))
    monkeypatch.setenv("KF_PIPELINES_SA_TOKEN_PATH", str(tmp_path / "token"))
    monkeypatch.setenv("KF_PIPELINES_ENDPOINT", kfp.url)
    code, _, err = run(capsys, "submit", *DIGITS, "--cookie-file", str(tmp_path / "cookie"))
    assert code == 0, err
    assert len(kfp.runs) == 2


def test_all_that_says_where_and_who_can_come_from_the_environment(
    kfp: KfpServer, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kfp.token, kfp.cookie, kfp.multi_user = "right", "session=abc", True
    (tmp_path / "token").write_text("right")
    (tmp_path / "cookie").write_text("session=abc")
    for variable, value in {
        "KF_PIPELINES_ENDPOINT": kfp.url,
        "KF_PIPELINES_UI_ENDPOINT": "https://kubeflow.example",
        "KF_PIPELINES_SA_TOKEN_PATH": str(tmp_path / "token"),
        "OPTDUEL_COOKIE_FILE": str(tmp_path / "cookie"),
        "OPTDUEL_NAMESPACE": "team",
    }.items():
        monkeypatch.setenv(variable, value)
    code, out, err = run(capsys, "submit", *DIGITS)
    assert code == 0, err
    assert out.startswith("address: https://kubeflow.example/#/runs/details/")
    assert next(iter(kfp.experiments.values()))["namespace"] == "team"
    _, plan, _ = run(capsys, "submit", *DIGITS, "--dry-run", "--json")
    assert json.loads(plan)["requests"][0]["body"]["namespace"] == "team"


def test_an_absent_token_file_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = run(capsys, "status", "--host", "http://localhost:1", "--token-file", "absent")
    assert (code, err) == (
        2,
        "optduel: error: --token-file = absent: No such file or directory; check the path\n",
    )


def test_without_any_address_one_is_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, "submit", *DIGITS)
    assert (code, out) == (2, "")
    assert "--host: is required" in err
    assert "port-forward" in err
