"""JSON that is read back: a value that canonical JSON can hold, or one kind of error.

`json` alone raises RecursionError where a document is nested deeply, reads constants that are no JSON, and
makes strings of half characters, which fail only when somebody writes them.
"""

import json
from typing import Any


def parse_json(content: bytes | str) -> Any:
    r"""The value of a document.

    Raises:
        ValueError: it is no JSON, nested too deeply, not in UTF-8, or holds a number or text that no document
            can hold; says which.

    Example:
        >>> parse_json('{"a": 1}')
        {'a': 1}
        >>> parse_json(r'"\ud800"')
        Traceback (most recent call last):
        ValueError: '\ud800' is half a character; no text
    """
    try:
        value = json.loads(content, parse_constant=_refuse_constant)
        json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
    except RecursionError as error:
        raise ValueError("not JSON: nested too deeply") from error
    except UnicodeEncodeError as error:
        raise ValueError(f"{error.object[error.start]!a} is half a character; no text") from error
    except ValueError as error:
        raise ValueError(f"not JSON: {error}") from error
    return value


def parse_object(content: bytes | str) -> dict[str, Any]:
    """The value of a document that has to be an object.

    Raises:
        ValueError: as `parse_json`, or it is none.
    """
    value = parse_json(content)
    if not isinstance(value, dict):
        raise ValueError("not a JSON object")
    return value


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no number of JSON")
