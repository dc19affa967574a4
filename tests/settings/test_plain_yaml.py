import pytest

from optduel.components.core import ExperimentError
from optduel.components.settings.authoring import MAX_CHARACTERS, load_yaml

BOMB = "a: &a [x, x]\n" + "".join(
    f"{name}: &{name} [*{before}, *{before}]\n" for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("a: {b: [1, 2.5, x]}", {"a": {"b": [1, 2.5, "x"]}}),
        ("a: 1e-3\nb: 1.0e-3\nc: -.5", {"a": 0.001, "b": 0.001, "c": -0.5}),
        ("[1:30, 010, 0x1F, 1_000, 0b_]", ["1:30", "010", "0x1F", "1_000", "0b_"]),
        ("[yes, no, on, off, true, False]", ["yes", "no", "on", "off", True, False]),
        ("[~, null, -3, +3, 0]", [None, None, -3, 3, 0]),
        ("day: 2026-11-23", {"day": "2026-11-23"}),
        ("", None),
    ],
)
def test_plain_data_is_read(text: str, value: object) -> None:
    assert load_yaml(text, "x") == value


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name: [", "here: not YAML: line 1, column 8: expected the node content, but found '<stream end>'"),
        ("a: 1\nb: *a", "here: not YAML: line 2, column 4: the alias *a is not supported; write it out"),
        (BOMB, "here: not YAML: line 2, column 8: the alias *a is not supported; write it out"),
        ("a: &a [*a]", "here: not YAML: line 1, column 8: the alias *a is not supported; write it out"),
        ("a: 1\nb: 2\na: 3", "here: not YAML: line 3, column 1: a occurs twice"),
        ("a: {b: 1, b: 1}", "here: not YAML: line 1, column 11: b occurs twice"),
        ("? [1]\n: 2", "here: not YAML: line 1, column 3: found unhashable key"),
        ("a\0b", "here: not YAML: unacceptable character #x0000: special characters are not allowed"),
        ("a: " + "9" * 5000, "here: not YAML: Exceeds the limit"),
        ("[" * 30_000, "here: not an experiment: nested too deeply"),
        ("{a: " * 15_000, "here: not an experiment: nested too deeply"),
        ("a: 1\n---\nb: 2", "here: not YAML: line 2, column 1: but found another document"),
        ("x" * (MAX_CHARACTERS + 1), "here: 65,537 characters long: the limit is 65,536"),
    ],
)
def test_other_text_is_refused_with_its_place(text: str, message: str) -> None:
    with pytest.raises(ExperimentError) as raised:
        load_yaml(text, "here")
    assert str(raised.value).startswith(message)


@pytest.mark.parametrize(
    "tag", ["!!python/object/apply:os.system ['true']", "!!timestamp x", "!!bool x", "!x 1"]
)
def test_tags_are_refused_before_anything_is_constructed(tag: str) -> None:
    with pytest.raises(ExperimentError, match="line 1, column 4: the tag .* is not supported"):
        load_yaml(f"a: {tag}", "here")
