"""Damaged and hostile inputs for readers of outside bytes, from sound ones and from nothing."""

import json
from collections.abc import Callable

from hypothesis import strategies as st

DEEP = 5_000
"""Levels: more than any reader may follow."""


def mutated(sound: bytes) -> st.SearchStrategy[bytes]:
    """A sound input with up to eight places cut out, overwritten or filled in; or any bytes at all."""
    place = st.integers(0, len(sound))
    edit = st.tuples(place, st.integers(0, 16), st.binary(max_size=16))

    def apply(edits: list[tuple[int, int, bytes]]) -> bytes:
        content = sound
        for start, removed, inserted in edits:
            content = content[:start] + inserted + content[start + removed :]
        return content

    return st.one_of(
        st.lists(edit, min_size=1, max_size=8).map(apply),
        place.map(lambda end: sound[:end]),
        st.binary(max_size=200),
        st.just(b"[" * DEEP),
        st.just(b'{"a":' * DEEP),
    )


def changed_json(sound: bytes) -> st.SearchStrategy[bytes]:
    """A sound JSON document with any value, at any place, replaced by another one, or a key by another."""
    document = json.loads(sound)
    places = list(_places(document))
    text = st.text(st.characters(), max_size=8)  # half characters included
    values = st.recursive(
        st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), text, st.just(10**4000)),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3),
        max_leaves=6,
    )

    def replace(place: tuple[object, ...], value: object, key: str | None) -> bytes:
        if not place:
            return json.dumps(value).encode()
        copy = json.loads(sound)
        inner = copy
        for part in place[:-1]:
            inner = inner[part]
        if key is None or isinstance(inner, list):
            inner[place[-1]] = value
        else:
            inner[key] = inner.pop(place[-1])
        return json.dumps(copy).encode()

    return st.builds(replace, st.sampled_from(places), values, st.none() | text)


def _places(value: object, above: tuple[object, ...] = ()) -> list[tuple[object, ...]]:
    """The paths of all values within a JSON document."""
    found = [above]
    if isinstance(value, dict):
        inner: list[tuple[object, object]] = list(value.items())
    else:
        inner = list(enumerate(value)) if isinstance(value, list) else []
    for key, one in inner:
        found += _places(one, (*above, key))
    return found


def only(expected: type[Exception], read: Callable[[], object]) -> None:
    """Reads; lets nothing but the documented error pass, which has to be one that can be shown."""
    try:
        read()
    except expected as error:
        message = str(error)
        assert message.encode()  # noqa: PT017  # what is raised depends on the input
