"""What looks like a credential is not shown, wherever it stands; what does not is shown."""

import json

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from optduel.components.core import ExperimentError, say
from optduel.components.redaction import RedactedLines, is_secret, redacted

INPUTS = 200
"""Of each property."""

VISIBLE = st.characters(min_codepoint=33, max_codepoint=126)
SECRETS = st.text(VISIBLE, min_size=9, max_size=40).filter(lambda text: sum(map(str.isalnum, text)) > 5)
WORDS = st.text(st.characters(exclude_categories=("Cs",)), max_size=40)

NAMES = (
    "password",
    "db_password",
    "PGPASSWORD",
    "passwd",
    "token",
    "HF_TOKEN",
    "refreshToken",
    "secret",
    "clientSecret",
    "AWS_SECRET_ACCESS_KEY",
    "aws_access_key_id",
    "private_key",
    "private-key-id",
    "api_key",
    "apikey",
    "X-Api-Key",
    "X-Auth-Token",
    "AccountKey",
    "SharedAccessKey",
    "credential",
)

SETTINGS = ("{name}={value}", "{name} = {value}", "--{name}={value}", "{name}: {value}")
"""How they are written: in shells, files and YAML; the value ends with a line."""

HEADERS = ("Authorization: {value}", "Proxy-Authorization: Basic {value}", "Cookie: session={value}; other=1")


def embedded(text: str, before: str, after: str) -> str:
    return f"{before}\n{text}\n{after}"


def told(secret: str, text: str) -> None:
    """The secret is not in what is shown, unless what is shown around it holds it anyway."""
    shown = redacted(text)
    assume(secret not in text.replace(secret, "", 1))
    assert secret not in shown
    assert secret[1:] not in shown
    assert redacted(shown) == shown, "what is hidden once stays as it is"


@given(user=st.text(st.sampled_from("abc-._%"), max_size=5), secret=SECRETS)
@example(user="me", secret="p@ss/w:rd@1")
@example(user="me", secret='quo"te/@x')
@example(user="", secret="://a:b@c:d@")
@pytest.mark.parametrize("scheme", ["http", "https", "s3", "gs", "postgresql", "HTTP", "git+ssh"])
@settings(max_examples=INPUTS)
def test_the_password_of_an_address(scheme: str, user: str, secret: str) -> None:
    shown = redacted(f"cannot reach {scheme}://{user}:{secret}@host.example/path: HTTP 403")
    assert secret not in shown
    assert shown == f"cannot reach {scheme}://***@host.example/path: HTTP 403"


@given(user=st.text(st.sampled_from("abcXYZ019-._~%!$&()*+,;="), min_size=9))
def test_a_token_in_place_of_a_user(user: str) -> None:
    for scheme in ("https", "gs", "s3"):
        assert user not in redacted(f"{scheme}://{user}@host/a")


@given(
    name=st.sampled_from(NAMES),
    form=st.sampled_from(SETTINGS),
    secret=SECRETS.filter(lambda secret: secret[0] not in "\"'\\"),
    before=WORDS,
    after=WORDS,
)
@settings(max_examples=2 * INPUTS)
def test_a_setting_that_is_named_after_a_secret(
    form: str, name: str, secret: str, before: str, after: str
) -> None:
    told(secret, embedded(form.format(name=name, value=secret), before, after))


@pytest.mark.parametrize("form", HEADERS)
@given(secret=SECRETS, before=WORDS, after=WORDS)
@settings(max_examples=INPUTS)
def test_a_header_that_is_a_secret(form: str, secret: str, before: str, after: str) -> None:
    assume(secret[0] not in "\"'\\")
    told(secret, embedded(form.format(value=secret), before, after))


@given(
    name=st.sampled_from([*NAMES, "Authorization", "Cookie", "Set-Cookie"]),
    secret=st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=9, max_size=40),
    before=WORDS,
)
@settings(max_examples=INPUTS)
def test_what_documents_quote(name: str, secret: str, before: str) -> None:
    """In JSON, in JSON within JSON, and as Python shows it."""
    document = {"a": before, name: secret, "z": 1}
    for text in (json.dumps(document), json.dumps({"body": json.dumps(document)}), repr(document)):
        shown = redacted(text)
        inner = json.dumps(secret)[1:-1]
        assume(secret not in text.replace(secret, "", 1) and inner not in text.replace(inner, "", 1))
        assert secret not in shown
        assert inner not in shown


@pytest.mark.parametrize("newline", ["\n", "\\n"])
def test_a_private_key(newline: str) -> None:
    kind = "RSA PRIVATE " + "KEY"
    lines = [f"-----BEGIN {kind}-----", "MIIEowIBAAKCAQEA", "Zm9vYmFy", f"-----END {kind}-----"]
    assert redacted(f"key: {newline.join(lines)} is not valid") == "key: *** is not valid"
    assert "MIIE" not in redacted(newline.join(lines[:2])), "also where its end was cut off"


@given(text=st.text(max_size=200))
@settings(max_examples=INPUTS)
def test_nothing_is_changed_twice(text: str) -> None:
    assert redacted(redacted(text)) == redacted(text)


@pytest.mark.parametrize(
    "piece", ["://", "://a:", "a-", "a_", "-a", "?", "?a=", "token", "x@", "basic ", '\\"']
)
def test_long_text_takes_no_longer_than_it_should(piece: str) -> None:
    """A pattern that went back and forth would take hours for these."""
    redacted(piece * 20_000)


@pytest.mark.parametrize(
    "text",
    [
        "--token-file = /run/token: No such file or directory; check the path",
        "--cookie-file = session: not text; check the path",
        "environment, secrets: AWS_REGION set more than once; keep one",
        "is not in namespace a; create it, or change the deployment (--deploy secrets=[])",
        "gs://bucket/photo@2x.png: HTTP 404; check the spelling",
        "registry.example/optduel@sha256:" + "0" * 64,
        "/data/a@b/c: Permission denied",
        "InvalidAccessKeyId: The AWS access key is not known",
        "TOKENIZERS_PARALLELISM=true KF_PIPELINES_SA_TOKEN_PATH=/a",
        "arms.adamw.weight_decay = -1: must be at least 0",
        "fingerprint " + "0f" * 32,
    ],
)
def test_ordinary_words_are_shown(text: str) -> None:
    assert redacted(text) == text


@pytest.mark.parametrize("name", ["PWD", "OLDPWD"])
def test_the_current_folder_is_no_secret(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Shells name it PWD, which others call a password."""
    monkeypatch.setenv(name, "/srv/me/flowers")
    assert (
        redacted("report: /srv/me/flowers/runs/a/report.html") == "report: /srv/me/flowers/runs/a/report.html"
    )


def test_the_environment_s_secrets_are_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINE_DB_PASSWORD", "correct horse")
    monkeypatch.setenv("MY_TOKEN_FILE", "/run/token")
    assert redacted("said correct horse of /run/token") == "said *** of /run/token"


@pytest.mark.parametrize("name", NAMES)
def test_names_of_secrets(name: str) -> None:
    assert is_secret(name)


@pytest.mark.parametrize("name", ["AWS_REGION", "TOKEN_FILE", "MAX_TOKENS", "KEY", "HOME"])
def test_names_of_no_secrets(name: str) -> None:
    assert not is_secret(name)


def test_no_error_and_no_line_of_narration_holds_a_secret(capsys: pytest.CaptureFixture[str]) -> None:
    address = "s3://me:p@ss/w@bucket/a\x1b[2J"
    assert str(ExperimentError(f"{address}: no")) == "s3://***@bucket/a\\u001b[2J: no"
    say(address)
    assert capsys.readouterr().err == "optduel: s3://***@bucket/a\\u001b[2J\n"


KEY = [
    "-----BEGIN RSA PRIVATE " + "KEY-----",
    "MIIEowIBAAKCAQEA",
    "Zm9vYmFy",
    "-----END RSA PRIVATE " + "KEY-----",
]


def shown_by_line(lines: list[str]) -> list[str]:
    hiding = RedactedLines()
    return [hiding.line(line) for line in lines]


def test_a_private_key_that_comes_line_by_line() -> None:
    """As a library prints a key file into a log: its lines alone look like nothing."""
    assert shown_by_line(["before", *KEY, "after"]) == ["before", "***", "***", "***", "***", "after"]
    assert shown_by_line([f"key: {KEY[0]}", KEY[1], f"{KEY[3]} is wrong"]) == [
        "key: ***",
        "***",
        "*** is wrong",
    ]
    assert shown_by_line([" ".join(KEY), "after"]) == ["***", "after"], "one that stands in one line is over"


def test_a_key_that_never_ends_does_not_hide_the_rest_of_a_log() -> None:
    assert shown_by_line([KEY[0], *["line"] * 300])[-1] == "line"


@given(lines=st.lists(st.text(st.characters(exclude_characters="\n"), max_size=30), max_size=8))
@settings(max_examples=50)
def test_lines_without_a_key_are_shown_as_ever(lines: list[str]) -> None:
    assert shown_by_line(lines) == [redacted(line) for line in lines]
