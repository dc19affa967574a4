"""An experiment and a deployment hold no credentials: they are written into pipelines, records and logs."""

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from optduel.components.core import ExperimentError
from optduel.pipeline.cli.command_line import main
from optduel.pipeline.cli.shipped import load_deployment, load_experiment

PASSWORD = "hunter2PASSWORD"
SIGNED = f"https://host/a?X-Amz-Signature={PASSWORD}"

PLACES = (
    f"s3://user:{PASSWORD}@bucket/x",
    f"s3://user:{PASSWORD}/with/slash@bucket/x",
    f"gs://{PASSWORD}@bucket/x",
    f"file://user:{PASSWORD}@host/x",
    f"https://user:{PASSWORD}@host/x.tgz",
    SIGNED,
)


def refused(load: object, *arguments: object) -> str:
    with pytest.raises(ExperimentError) as raised:
        load(*arguments)  # type: ignore[operator]
    message = str(raised.value)
    assert PASSWORD not in message
    return message


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize(
    ("field", "source"),
    [
        ("data.source.folder.path", "{{kind: folder, path: '{place}'}}"),
        ("data.source.tfds.archive", "{{kind: tfds, name: tf_flowers, archive: '{place}'}}"),
        ("data.source.tfds.data_dir", "{{kind: tfds, name: tf_flowers, data_dir: '{place}'}}"),
    ],
)
def test_a_place_of_images_holds_no_credentials(field: str, source: str, place: str) -> None:
    message = refused(load_experiment, "digits", [f"data.source={source.format(place=place)}"])
    assert message.splitlines()[0] == "digits: 1 problem"
    assert re.search(
        rf"data\.source\.{field.rpartition('.')[2]}: .*: ?.*holds credentials; they come", message
    )


@pytest.mark.parametrize("place", PLACES[:3])
def test_a_root_of_a_deployment_holds_no_credentials(place: str) -> None:
    assert "root: " in refused(load_deployment, "pod", ["image=i:1", f"root={place}"])


@pytest.mark.parametrize(
    "image", [f"user:{PASSWORD}@registry.example/optduel:1", f"user:{PASSWORD}/x@registry.example/optduel:1"]
)
def test_an_image_holds_no_credentials(image: str) -> None:
    message = refused(load_deployment, "pod", [f"image={image}"])
    assert "\nimage: may hold an @ before a digest only" in message


@pytest.mark.parametrize(
    "image",
    [
        "i:1",
        "registry.example:5000/a/optduel:1.2-cpu",
        "registry.example:5000/a/optduel@sha256:" + "0" * 64,
        "registry.example/optduel:1@sha256:" + "0" * 64,
    ],
)
def test_ordinary_images_are_taken(image: str) -> None:
    assert load_deployment("pod", [f"image={image}"]).image == image


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("AWS_SECRET_ACCESS_KEY", PASSWORD),
        ("AWS_SESSION_TOKEN", PASSWORD),
        ("AWS_ACCESS_KEY_ID", PASSWORD),
        ("HF_TOKEN", PASSWORD),
        ("DB_PASSWORD", PASSWORD),
        ("MLFLOW_TRACKING_PASSWORD", PASSWORD),
        ("https_proxy", f"http://user:{PASSWORD}@proxy.example:3128"),
        ("HEADERS", f"Authorization: Bearer {PASSWORD}"),
        ("MY_URL", SIGNED),
    ],
)
def test_a_variable_holds_no_credentials(name: str, value: str) -> None:
    message = refused(load_deployment, "pod", ["image=i:1", f"environment={{{name}: '{value}'}}"])
    assert f"\nenvironment: holds credentials in {name}, and is written" in message
    assert "name that under secrets" in message


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("AWS_ENDPOINT_URL", "http://store.example:9000"),
        ("AWS_REGION", "eu-central-1"),
        ("https_proxy", "http://proxy.example:3128"),
        ("AWS_WEB_IDENTITY_TOKEN_FILE", "/var/run/token"),
        ("TOKENIZERS_PARALLELISM", "false"),
    ],
)
def test_ordinary_variables_are_taken(name: str, value: str) -> None:
    deployment = load_deployment("pod", ["image=i:1", f"environment={{{name}: '{value}'}}"])
    assert dict(deployment.environment) == {name: value}


@given(
    start=st.integers(0, 60), field=st.sampled_from(["title", "name", "data.source.path", "model.name", "x"])
)
def test_no_message_shows_half_a_credential(start: int, field: str) -> None:
    """Values are cut in messages, which must not hide that they are credentials."""
    value = f"{'x' * start} https://user:{PASSWORD}{'a' * 90}@host/"
    refused(load_experiment, "digits", [f"{field}={{a: '{value}'}}"])
    refused(load_experiment, "digits", [f"{field}.b.c=[{value}"])


@pytest.mark.parametrize(
    "arguments",
    [
        ["run", "digits", "--root", PLACES[0]],
        ["run", "digits", "--root", PLACES[1]],
        ["run", "digits", "--image", f"user:{PASSWORD}@registry.example/optduel:1"],
        ["report", PLACES[0]],
        ["history", PLACES[0], "--root", PLACES[1]],
        ["history", "--root", PLACES[2]],
        ["compile", "digits", "--image", "i:1", "--root", PLACES[0], "--output", "x.yaml"],
        ["check", f"https://user:{PASSWORD}@host/mine.yaml"],
        ["status", "--host", f"http://user:{PASSWORD}@127.0.0.1:1"],
        ["status", "--host", f"http://user:{PASSWORD}/x@127.0.0.1:1"],
        ["status", "--host", "http://127.0.0.1:1", "--ui-host", f"http://{PASSWORD}@127.0.0.1:1"],
    ],
)
def test_no_command_repeats_a_credential(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("optduel: error: ")
    assert PASSWORD not in captured.err
    assert not list(tmp_path.rglob("*.json")), "nothing was written"


def test_an_endpoint_of_the_environment_is_not_shown(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("KF_PIPELINES_ENDPOINT", f"http://user:{PASSWORD}@127.0.0.1:1")
    assert main(["status"]) == 2
    assert capsys.readouterr().err == (
        "optduel: error: --host (KF_PIPELINES_ENDPOINT): holds credentials; give the address alone, and "
        "--token-file or --cookie-file\n"
    )
