"""Keeps credentials out of all that is printed or written: the one place that knows what they look like.

It hides too much rather than too little.
"""

import os
import re

_HIDDEN = "***"

_NAME = (
    r"(?:[a-z0-9]+[_-])*[a-z0-9]*"
    r"(?:token|secret|signature|password|passwd|passphrase|pwd|credential"
    r"|(?:access|account|api|auth|private|secret|session|shared|signing)[_-]?key)"
    r"(?:id|value)?(?:[_-](?!file|path|dir|name|variable)[a-z0-9]+)*"
)
"""Of a setting that is a secret: AWS_SECRET_ACCESS_KEY, x-api-key, refreshToken; not TOKEN_FILE or tokens."""

_SECRET_NAME = re.compile(_NAME, re.IGNORECASE)
_START = r"(?i)(?<![\w/])(?<!\w-)"
_FAILURE = "(?-i:Invalid|Expired|Missing|Bad|Unknown|Malformed)"
_MARKS = r"(?=[;,:.)}\]\"']*(?:\s|\Z))"
"""What ends a word in a sentence or document: it tells nothing of the secret, and readers need it."""

_SEPARATOR = r"\\*[\"']?\s*[:=]\s*"

_PATTERNS = (
    # Also where line ends are written as \n.
    (
        re.compile(r"(?s)-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)"),
        _HIDDEN,
    ),
    (re.compile(r"\?[^\s\"'<>=?]+=[^\s\"'<>]*"), f"?{_HIDDEN}"),
    # Headers that are secrets as a whole, to the end of the text that quotes them, or of the line.
    (
        re.compile(
            rf"{_START}((?:(?:proxy-)?authorization|(?:set-)?cookies?){_SEPARATOR})"
            r"(?:(\\*\")(?:\\.|[^\"\\\n])*|(\\*')(?:\\.|[^'\\\n])*|(?=[^\s\"'\\])[^\n]+)"
        ),
        rf"\1\2\3{_HIDDEN}",
    ),
    (
        re.compile(rf"{_START}(bearer|basic|aws4-hmac-sha256)\s+[^\s\"'<>]{{8,}}(?:\s*\w+=[^\s,\"'<>]+,?)*"),
        rf"\1 {_HIDDEN}",
    ),
    (re.compile(rf"{_START}(x-(?:amz|goog)-[\w-]+\s*:\s*)\S+"), rf"\1{_HIDDEN}"),
    # Settings that are named after secrets: quoted, as `name=value`, as `name: value`, and in XML.
    (re.compile(rf"{_START}({_NAME}{_SEPARATOR}\\*\")(?:\\.|[^\"\\\n])*"), rf"\1{_HIDDEN}"),
    (re.compile(rf"{_START}({_NAME}{_SEPARATOR}\\*')(?:\\.|[^'\\\n])*"), rf"\1{_HIDDEN}"),
    (re.compile(rf"{_START}({_NAME}\s*=\s*)[^\s\"'\\]\S*?{_MARKS}"), rf"\1{_HIDDEN}"),
    # Not `ExpiredToken: ...`, as servers name their errors.
    (
        re.compile(rf"{_START}(?!{_FAILURE})({_NAME}:[ \t]+)[^\s\"'\\][^\n]*"),
        rf"\1{_HIDDEN}",
    ),
    (re.compile(rf"(?i)(<{_NAME}>)[^<]*"), rf"\1{_HIDDEN}"),
    # Secrets under any name: keys of AWS, tokens of Google, GitHub and Hugging Face, JSON Web Tokens.
    (re.compile(r"\b(?:AKIA|ASIA)[A-Z0-9]{12,}"), _HIDDEN),
    (re.compile(r"\bya29\.[\w.-]+"), _HIDDEN),
    (re.compile(r"\b(?:gh[oprsu]_|github_pat_|hf_)\w{16,}"), _HIDDEN),
    (re.compile(r"\beyJ[\w-]+\.[\w-]+\.[\w-]*"), _HIDDEN),
)

# With one slash where the address was taken for a path.
_ADDRESS = re.compile(r"(?i)(\b[a-z][a-z0-9+.-]*:/{1,2})([^\s\"'<>/][^\s\"'<>]*)")
_USER_AND_PASSWORD = re.compile(r"(:/{1,2})[^/@\"'<>:]*:")

_SCHEMES_OF_PLACES = ("gs:", "s3:", "minio:", "file:")
"""Their names may hold an @ anywhere but in front of the first slash."""

_FOLDERS = ("PWD", "OLDPWD")
"""What a shell calls the current folder and the last one; people read their paths in all that is told."""

_SHORTEST = 8
"""Characters of a value of the environment that is searched for."""


def redacted(text: str) -> str:
    """`text` without credentials: those of this process's environment and all that look like some.

    Example:
        >>> redacted("http://me:pass@host/a?X-Amz-Signature=0a: 403; api_key: abc")
        'http://***@host/a?*** 403; api_key: ***'
    """
    for name, value in os.environ.items():
        if len(value) >= _SHORTEST and name not in _FOLDERS and is_secret(name):
            text = text.replace(value, _HIDDEN)
    if "@" in text:
        text = re.sub(r"\S+", _without_password, text)
        text = _ADDRESS.sub(_without_user, text)
    for pattern, replacement in _PATTERNS:
        text = pattern.sub(replacement, text)
    return text


_KEY_BEGINS = re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----(?!.*-----END )")
_KEY_ENDS = re.compile(r"-----END [A-Z ]*PRIVATE KEY-----")
_LONGEST_KEY = 200
"""Lines: a key of 16,384 bits has 200. What never ends is not hidden for ever."""


class RedactedLines:
    """Hides credentials in text that comes line by line: a key file's lines alone look like nothing."""

    def __init__(self) -> None:
        self._left = 0

    def line(self, text: str) -> str:
        """A line as it may be shown.

        Args:
            text: the line, without its end.
        """
        if not self._left:
            self._left = _LONGEST_KEY if _KEY_BEGINS.search(text) else 0
            return redacted(text)
        ended = _KEY_ENDS.search(text)
        self._left = 0 if ended else self._left - 1
        return f"{_HIDDEN}{redacted(text[ended.end() :])}" if ended else _HIDDEN


def is_secret(name: str) -> bool:
    """Whether a setting or variable of this name holds a secret."""
    return _SECRET_NAME.fullmatch(name) is not None


def _without_password(word: re.Match[str]) -> str:
    """Hides `user:password` in front of the last @; a password may hold an @, a slash or a quote."""
    text = word[0]
    last = text.rfind("@")
    found = _USER_AND_PASSWORD.search(text, 0, max(last, 0))
    return f"{text[: found.end(1)]}{_HIDDEN}{text[last:]}" if found else text


def _without_user(address: re.Match[str]) -> str:
    scheme, rest = address.groups()
    authority = rest.partition("/")[0]
    if "@" not in (authority if scheme.lower().startswith(_SCHEMES_OF_PLACES) else rest):
        return address[0]
    return f"{scheme}{_HIDDEN}@{rest.rpartition('@')[2]}"
