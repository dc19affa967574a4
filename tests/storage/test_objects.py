"""What holds for an object in every store."""

import google_crc32c
import pytest

from optduel.components.core import ConflictError, StorageError
from optduel.components.storage import (
    delete,
    is_remote,
    join,
    list_entries,
    local_path,
    publish,
    publishing,
    read,
    stat,
)
from tests.servers.places import PlaceOf

ODD_NAMES = [
    "a b.json",
    ".hidden",
    "x.part",
    "é ü/c.bin",
    "100%.txt",
    "c%20d",
    "image #1.jpg",
    "q?x=1&y=2",
    "plus+",
    "a/b/c/d",
]


def crc32c(content: bytes) -> str:
    return f"{google_crc32c.value(content):08x}"


@pytest.mark.parametrize(
    "content", [b"", b"first", bytes(range(256)) * 4096], ids=["empty", "small", "large"]
)
def test_what_is_published_is_read(root: str, content: bytes) -> None:
    place = join(root, "a/b.bin")
    written = publish(place, content)
    assert read(place) == content
    assert (written.bytes, written.crc32c) in [(len(content), crc32c(content)), (len(content), None)]
    assert (written.crc32c is None) == (not is_remote(root))
    assert stat(place) == written


def test_odd_names_are_taken_literally(root: str) -> None:
    for name in ODD_NAMES:
        publish(join(root, name), name.encode())
    for name in ODD_NAMES:
        assert read(join(root, name)) == name.encode()
    listed = {entry.uri for entry in list_entries(root)}
    if is_remote(root):
        assert listed == {f"{root}/{name}" for name in ODD_NAMES}
    else:
        assert listed == {str(local_path(root) / name) for name in ODD_NAMES}


def test_an_absent_object_is_none_to_stat_and_an_error_to_read(root: str) -> None:
    place = join(root, "absent")
    assert stat(place) is None
    with pytest.raises(StorageError, match=r"absent: .*check the spelling"):
        read(place)


def test_a_folder_lists_what_is_below_it_and_nothing_beside_it(root: str) -> None:
    for name in ("a/2", "a/1", "a/b/3", "ab/4", "c"):
        publish(join(root, name), b"x" * len(name))
    listed = list_entries(join(root, "a"))
    assert [entry.uri.rpartition("/a/")[2] for entry in listed] == ["1", "2", "b/3"]
    assert [entry.bytes for entry in listed] == [3, 3, 5]
    assert list_entries(join(root, "none")) == []
    assert [entry.uri for entry in list_entries(f"{join(root, 'a')}/")] == [entry.uri for entry in listed]


def test_the_versions_of_a_listing_are_those_of_stat(root: str) -> None:
    publish(join(root, "a"), b"1")
    (listed,) = list_entries(root)
    found = stat(join(root, "a"))
    assert found is not None
    assert (found.uri, found.bytes, found.version) == (listed.uri, listed.bytes, listed.version)


def test_what_is_deleted_is_gone_and_may_be_deleted_again(root: str) -> None:
    place = join(root, "a")
    publish(place, b"1")
    delete(place)
    assert stat(place) is None
    assert list_entries(root) == []
    delete(place)


def test_nothing_is_seen_before_the_end(root: str) -> None:
    place = join(root, "folder/a.bin")
    with publishing(place) as file:
        file.write(b"half of it")
        file.flush()
        assert stat(place) is None
        assert list_entries(root) == []
    assert read(place) == b"half of it"


def test_what_is_written_out_of_order_arrives_in_order(root: str) -> None:
    with publishing(join(root, "a.zip")) as file:
        file.write(b"????second")
        file.seek(0)
        file.write(b"1st ")
    assert read(join(root, "a.zip")) == b"1st second"


@pytest.mark.parametrize("failure", [RuntimeError, KeyboardInterrupt, SystemExit])
def test_an_exception_leaves_everything_as_it_was(root: str, failure: type[BaseException]) -> None:
    publish(join(root, "old"), b"old")

    def write_half(name: str) -> None:
        with publishing(join(root, name)) as file:
            file.write(b"half of the new con")
            raise failure

    for name in ("old", "new"):
        with pytest.raises(failure):
            write_half(name)
    assert read(join(root, "old")) == b"old"
    assert len(list_entries(root)) == 1


def test_an_object_is_created_once(root: str) -> None:
    place = join(root, "a/pointer.json")
    created = publish(place, b"first", if_absent=True)
    with pytest.raises(ConflictError, match=r"pointer\.json: .*decide again"):
        publish(place, b"second", if_absent=True)
    assert read(place) == b"first"
    assert stat(place) == created


def test_a_version_is_replaced_once(root: str) -> None:
    place = join(root, "pointer.json")
    first = publish(place, b"first", if_absent=True)
    second = publish(place, b"second", if_version=first.version)
    with pytest.raises(ConflictError, match=r"pointer\.json: .*decide again"):
        publish(place, b"third", if_version=first.version)
    assert read(place) == b"second"
    publish(place, b"fourth", if_version=second.version)
    assert read(place) == b"fourth"


def test_a_version_of_what_is_gone_is_not_replaced(root: str) -> None:
    place = join(root, "pointer.json")
    first = publish(place, b"first")
    delete(place)
    with pytest.raises(ConflictError, match=r"pointer\.json: .*decide again"):
        publish(place, b"second", if_version=first.version)
    assert stat(place) is None


def test_objects_larger_than_one_request_arrive_whole(place_of: PlaceOf) -> None:
    content = b"0123456789abcdef" * (40 << 16)  # 40 MiB: a second chunk on Cloud Storage
    for kind in ("gs", "s3"):
        place = join(place_of(kind).root, "large")
        assert publish(place, content).crc32c == crc32c(content)
        assert read(place) == content


@pytest.mark.parametrize(("kind", "scheme"), [("gs", "gs"), ("moto", "s3")])
def test_a_bucket_that_is_not_there_is_named(place_of: PlaceOf, kind: str, scheme: str) -> None:
    place_of(kind)
    uri = f"{scheme}://no-such-bucket/a"
    for operation in (lambda: read(uri), lambda: publish(uri, b""), lambda: list_entries(uri)):
        with pytest.raises(
            StorageError, match=f"^{scheme}://no-such-bucket(/a)?: HTTP 404 .*create the bucket"
        ) as raised:
            operation()
        assert not isinstance(raised.value, ConflictError)
