"""Keeps credentials out of everything that is shown."""

import os
import re

_SECRET_VARIABLES = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")

_SECRET_NAME = r"[\w-]*(?:token|secret|signature|password|credential|access[_-]?key)[\w-]*"

_PATTERNS = (
    (re.compile(r"(?<=://)[^\s/@]+@"), "***@"),
    (re.compile(r"\?[^\s\"'<>=]+=[^\s\"'<>]*"), "?***"),
    (
        re.compile(r"(?i)\b(bearer|basic|aws4-hmac-sha256)\s+[^\s\"'<>]{8,}(\s*\w+=[^\s,\"'<>]+,?)*"),
        r"\1 ***",
    ),
    (re.compile(rf"(?i)({_SECRET_NAME}\s*=\s*[\"']?)[^\s\"'<>&,;]+"), r"\1***"),
    (re.compile(rf"(?i)([\"']{_SECRET_NAME}[\"']\s*:\s*[\"'])[^\"']+"), r"\1***"),
    (re.compile(r"(?i)(\bx-(?:amz|goog)-[\w-]+\s*:\s*)\S+"), r"\1***"),
    (re.compile(r"\b(?:AKIA|ASIA)[A-Z0-9]{12,}"), "***"),
    (re.compile(r"\bya29\.[\w.-]+"), "***"),
    (re.compile(r"\beyJ[\w-]+\.[\w-]+\.[\w-]*"), "***"),
)
"""What must not be shown, and what stands in its place.

User names and queries of addresses, Authorization headers, settings named after secrets, access keys of AWS,
access tokens of Google, and JSON Web Tokens.
"""


def redacted(text: str) -> str:
    """`text` without credentials: those of this process's environment and all that look like some."""
    for name in _SECRET_VARIABLES:
        value = os.environ.get(name)
        if value and len(value) >= 8:
            text = text.replace(value, "***")
    for pattern, replacement in _PATTERNS:
        text = pattern.sub(replacement, text)
    return text
