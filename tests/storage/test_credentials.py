"""Credentials come from the platform, and are never shown."""

import json
import logging
import subprocess
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from optduel.components.core import StorageError
from optduel.components.redaction import redacted
from optduel.components.storage import Download, download, list_entries, local_path, publish, read, stat
from tests.faults.proxy import Answer, Fault, serving
from tests.servers import stores
from tests.servers.places import Place, PlaceOf

REPOSITORY = Path(__file__).parents[2]

CANARY = "CANARY0123456789canary"

ECHOES = (
    f"Authorization: Bearer {CANARY}",
    f"Authorization: AWS4-HMAC-SHA256 Credential={CANARY}/20260101/us-east-1/s3/aws4, Signature={CANARY}",
    f"https://host/b/a?X-Amz-Credential={CANARY}&X-Amz-Signature={CANARY}&X-Amz-Security-Token={CANARY}",
    f"https://host/b/a?x=1&X-Goog-Signature={CANARY}",
    f"POST https://host/upload/b/a?uploadType=resumable&upload_id={CANARY}: no",
    f"https://user:{CANARY}@host/a",
    f"x-amz-security-token: {CANARY}",
    f'{{"access_token": "{CANARY}", "refresh_token": "{CANARY}"}}',
    f"aws_secret_access_key = {CANARY}",
    f"AWS_SESSION_TOKEN={CANARY}",
    "AKIA" + CANARY.upper() + " is not known",
    f"ya29.{CANARY}",
    f"eyJhbGciOiJSUzI1NiJ9.{CANARY}.{CANARY}",
)
"""What careless servers, proxies and libraries write into their errors."""


@pytest.mark.parametrize("text", ECHOES)
def test_what_looks_like_a_credential_is_not_shown(text: str) -> None:
    assert CANARY not in redacted(text)
    assert CANARY.upper() not in redacted(text)


@pytest.mark.parametrize("name", ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"])
def test_the_credentials_of_the_environment_are_not_shown(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, CANARY)
    assert redacted(f"the request {CANARY} was refused") == "the request *** was refused"


@pytest.mark.parametrize(
    "text",
    [
        "gs://bucket/a/b.json: HTTP 403 SignatureDoesNotMatch: The signature is another; renew it",
        "s3://bucket/a b#c.json: HTTP 400 ExpiredToken: The provided token has expired; renew",
        "gs://bucket/a: 5 bytes with CRC-32C 0a0b0c0d arrived, but the store has 6 bytes",
        "basic facts about bearer bonds; tokens: none",
    ],
)
def test_ordinary_words_are_shown(text: str) -> None:
    assert redacted(text) == text


def shown(error: BaseException) -> str:
    return "".join([str(error), repr(error), *traceback.format_exception(error)])


def body(kind: str, text: str) -> bytes:
    if kind == "gs":
        return json.dumps({"error": {"code": 0, "message": text}}).encode()
    escaped = text.replace("&", "&amp;").replace("<", "&lt;")
    return f"<?xml version='1.0'?><Error><Code>Denied</Code><Message>{escaped}</Message></Error>".encode()


@pytest.mark.parametrize("code", [400, 403, 404, 503])
def test_no_error_of_a_store_shows_a_credential(
    place: Place, code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    monkeypatch.setenv("OPTDUEL_STORAGE_SECONDS", "0.2")
    monkeypatch.setenv("AWS_SESSION_TOKEN", CANARY)
    uri = f"{place.root}/a"
    operations: list[Callable[[], object]] = [
        lambda: read(uri),
        lambda: publish(uri, b"x"),
        lambda: list_entries(uri),
        lambda: download([Download(uri, tmp_path / "a")]),
    ]
    for echo in ECHOES[:4]:
        place.proxy.faults.clear()
        place.proxy.inject(Fault(answer=Answer(code, {}, body(place.kind, echo)), times=1000))
        for operation in operations:
            with pytest.raises(StorageError) as raised:
                operation()
            for secret in (CANARY, stores.SECRET_KEY, stores.ACCESS_KEY):
                assert secret not in shown(raised.value)
                assert secret not in caplog.text


@pytest.mark.parametrize(
    "uri",
    [
        f"https://host/b/a?X-Amz-Credential={CANARY}&X-Amz-Signature={CANARY}",
        f"s3://key:{CANARY}@bucket/a",
        f"gs://{CANARY}@bucket/a",
        f"file://user:{CANARY}@host/a",
    ],
)
def test_a_credential_in_a_uri_is_refused_and_not_repeated(uri: str) -> None:
    for operation in (read, stat, list_entries, local_path):
        with pytest.raises(StorageError) as raised:
            operation(uri)
        assert CANARY not in shown(raised.value)


def test_an_entry_shows_no_credential(place: Place) -> None:
    entry = publish(f"{place.root}/a", b"x")
    assert stores.SECRET_KEY not in repr(entry)
    assert stores.ACCESS_KEY not in repr(entry)


def test_an_account_that_was_disabled_is_named_with_the_remedy(
    place_of: PlaceOf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cloud Storage's client asks for a token first; here, a server on loopback refuses it."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()
    with serving("http://127.0.0.1:1") as proxy:
        account = {
            "type": "service_account",
            "project_id": "tests",
            "private_key": pem,
            "client_email": "trainer@tests.iam.gserviceaccount.com",
            "token_uri": f"{proxy.url}/token",
        }
        (tmp_path / "account.json").write_text(json.dumps(account))
        monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "account.json"))
        monkeypatch.delenv("STORAGE_EMULATOR_HOST", raising=False)
        refusal = {
            "error": "invalid_grant",
            "error_description": f"expired, not valid: access_token={CANARY}",
        }
        proxy.inject(Fault(answer=Answer(400, {}, json.dumps(refusal).encode()), times=100))
        with pytest.raises(StorageError, match="^gs://bucket-1/a: .*expired.*; .*renew them with") as raised:
            read("gs://bucket-1/a")
    assert CANARY not in shown(raised.value)
    assert pem.splitlines()[3] not in shown(raised.value)


MODULES = ("google.cloud.storage", "google.auth", "botocore", "boto3", "requests", "urllib3", "pyarrow")


def test_importing_the_package_loads_no_client(tmp_path: Path) -> None:
    code = f"""
import sys
import optduel.components.storage
from optduel.components.storage import publish, read, upload
publish(sys.argv[1], b"x")
read(sys.argv[1])
print(sorted(set({MODULES!r}) & sys.modules.keys()))
"""
    command = [sys.executable, "-c", code, str(tmp_path / "a")]
    finished = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=60, check=True)
    assert finished.stdout == "[]\n"
