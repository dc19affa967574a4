"""The names of places."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from optduel.components.core import StorageError
from optduel.components.storage import is_remote, join, local_path
from optduel.components.storage.location import parse_address

CHARACTERS = st.characters(exclude_categories=("Cs", "Cc"), exclude_characters="/")
SEGMENTS = st.text(CHARACTERS, min_size=1, max_size=8)
NAMES = st.lists(SEGMENTS.filter(lambda name: name not in (".", "..")), min_size=1, max_size=4).map("/".join)
SCHEMES = st.sampled_from(["gs", "s3", "minio"])


@given(scheme=SCHEMES, names=st.lists(NAMES, min_size=1, max_size=3))
def test_an_address_keeps_every_name_literally(scheme: str, names: list[str]) -> None:
    uri = join(f"{scheme}://bucket-1", *names)
    assert is_remote(uri)
    address = parse_address(uri)
    assert (address.scheme, address.bucket, address.key) == (scheme, "bucket-1", "/".join(names))
    assert address.uri == uri


@given(names=st.lists(NAMES, min_size=1, max_size=3))
def test_local_places_of_all_kinds_name_the_same_file(names: list[str]) -> None:
    expected = Path("/runs").joinpath(*names)
    assert join(Path("/runs"), *names) == expected
    assert join("/runs", *names) == str(expected)
    assert local_path(join("file:///runs", *names)) == expected


@given(first=NAMES, second=NAMES)
def test_joining_at_once_is_joining_one_by_one(first: str, second: str) -> None:
    for root in ("gs://bucket", "gs://bucket/", "runs", "file:///runs"):
        assert join(root, first, second) == join(join(root, first), second) == join(root, f"{first}/{second}")


@given(
    names=st.lists(st.one_of(NAMES, st.sampled_from(["", ".", "..", "/etc", "a//b", "a/", "a/../b", "a\nb"])))
)
def test_no_name_leaves_its_folder(names: list[str]) -> None:
    try:
        joined = join("/runs", *names)
    except StorageError:
        assert any(set(name.split("/")) & {"", ".", ".."} or "\n" in name for name in names)
    else:
        assert Path(joined).is_relative_to("/runs")
        assert ".." not in Path(joined).parts


@pytest.mark.parametrize(
    ("uri", "rule"),
    [
        ("gs://", "is no bucket's name; write gs://BUCKET/NAME"),
        ("s3:///a", "is no bucket's name; write s3://BUCKET/NAME"),
        ("gs://B/a", "is no bucket's name"),
        ("gs://bucket", "names no object"),
        ("gs://bucket/", "names no object"),
        ("gs://bucket//a", "names no object"),
        ("gs://bucket/a/../b", "names no object"),
        ("gs://bucket/a\nb", "names no object"),
        ("gs://bucket/" + "x" * 1025, "longer than 1024 bytes"),
    ],
)
def test_what_names_no_object_is_refused(uri: str, rule: str) -> None:
    with pytest.raises(StorageError, match=rule):
        parse_address(uri)


def test_a_folder_may_be_a_bucket() -> None:
    assert parse_address("gs://bucket", folder=True).key == ""
    assert parse_address("gs://bucket/", folder=True).key == ""
    assert parse_address("gs://bucket/a/", folder=True).key == "a"


@pytest.mark.parametrize("root", ["gs://", "s3://", "minio:///folder"])
def test_a_place_without_a_bucket_is_refused(root: str) -> None:
    with pytest.raises(StorageError, match="is no bucket's name; write .*://BUCKET/NAME"):
        join(root, "runs")


def test_home_is_found_where_no_shell_has_put_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert local_path("~/runs") == tmp_path / "runs"
    assert local_path("runs/~/x") == Path("runs/~/x")
    assert local_path("~no-such-user/runs") == Path("~no-such-user/runs")
