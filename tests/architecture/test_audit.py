"""The secret scan of `make audit`: it finds what it should, and nothing in the tree."""

import subprocess
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
PATTERNS = REPOSITORY / ".ci" / "secret-patterns.txt"

# In halves, or this file would be found.
SECRETS = (
    "key = AKIA" + "IOSFODNN7EXAMPLE",
    "-----BEGIN RSA " + "PRIVATE KEY-----",
    "ghp_" + "a1B2" * 9,
    "glpat-" + "a1B2" * 5,
    "hf_" + "abcdefghijklmnopqrstuvwxyzabcdefgh",
    "xoxb-" + "1234567890-abc",
    "AIza" + "a1B2c" * 7,
    "ya29." + "a1B2" * 5,
    "eyJhbGciOiJSUzI1NiJ9." + "eyJzdWIiOiIxMjM0In0" + ".c2ln",
    "https://me:" + "correct-horse" + "@host/x",
)


def found(text: str) -> str:
    scan = subprocess.run(
        ["grep", "-E", "-f", PATTERNS], input=text, capture_output=True, text=True, check=False
    )
    assert scan.returncode in (0, 1), scan.stderr
    return scan.stdout


@pytest.mark.parametrize("secret", SECRETS)
def test_a_secret_is_found(secret: str) -> None:
    assert found(f'a = "{secret}"\n')


def test_every_pattern_finds_one() -> None:
    for pattern in PATTERNS.read_text().splitlines():
        command = ["grep", "-cE", "-e", pattern]
        scan = subprocess.run(command, input="\n".join(SECRETS), capture_output=True, text=True, check=False)
        assert int(scan.stdout) >= 1, pattern


def test_no_file_holds_a_secret(project_files: list[Path]) -> None:
    """Nor may one be excepted: exceptions are for the history, which stays as it is."""
    for path in project_files:
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        assert not found(text), path
