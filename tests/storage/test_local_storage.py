import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from optduel.components.core import RefusedError, StorageError
from optduel.components.storage import (
    as_storage_error,
    delete_unfinished,
    local_path,
    publish,
    publishing,
    read,
)

REPOSITORY = Path(__file__).parents[2]


def files_in(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize(
    ("uri", "path"),
    [
        ("runs/a", "runs/a"),
        ("/runs/a", "/runs/a"),
        ("file:///runs/a", "/runs/a"),
        ("file:///runs/a%20b", "/runs/a b"),
        ("file://localhost/runs/a", "/runs/a"),
    ],
)
def test_local_places_are_paths(uri: str, path: str) -> None:
    assert local_path(uri) == Path(path)


@pytest.mark.parametrize("uri", ["gs://b/a", "s3://b/a", "minio://b/a"])
def test_remote_places_are_no_paths(uri: str) -> None:
    with pytest.raises(StorageError, match=f"^{uri}: names no local place; give a directory"):
        local_path(uri)


@pytest.mark.parametrize("uri", ["https://h/a", "hdfs://h/a", "GS://b/a"])
def test_other_schemes_are_refused(uri: str) -> None:
    with pytest.raises(StorageError, match=f"^{uri}: has a scheme that is not supported"):
        read(uri)


def test_a_file_uri_with_two_slashes_does_not_lose_its_first_folder() -> None:
    with pytest.raises(
        StorageError, match="^file://runs/a: names another host; an absolute path starts with"
    ):
        local_path("file://runs/a")


def test_a_published_file_is_whole_readable_and_alone(tmp_path: Path) -> None:
    target = tmp_path / "new" / "folders" / "a.bin"
    publish(target, b"first")
    publish(target, b"second")
    assert files_in(target.parent) == {"a.bin": b"second"}
    assert target.stat().st_mode & 0o777 == 0o644
    assert read(target) == b"second"


def test_nothing_is_seen_before_the_end(tmp_path: Path) -> None:
    target = tmp_path / "a.bin"
    publish(target, b"old")
    with publishing(target) as file:
        file.write(b"new")
        file.flush()
        assert target.read_bytes() == b"old"
    assert target.read_bytes() == b"new"


@pytest.mark.parametrize("failure", [RuntimeError, KeyboardInterrupt, SystemExit, GeneratorExit])
@pytest.mark.parametrize("old", [{}, {"a.bin": b"old"}], ids=["new", "overwrite"])
def test_an_exception_leaves_everything_as_it_was(
    tmp_path: Path, old: dict[str, bytes], failure: type[BaseException]
) -> None:
    for name, content in old.items():
        publish(tmp_path / name, content)

    def write_half() -> None:
        with publishing(tmp_path / "a.bin") as file:
            file.write(b"half of the new con")
            raise failure

    with pytest.raises(failure):
        write_half()
    assert files_in(tmp_path) == old


def run(code: str, *arguments: str, prefix: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    command = [*prefix, sys.executable, "-c", code, *arguments]
    return subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=60, check=False)


FULL_DISK = """
import pathlib, sys
from optduel.components.core.errors import StorageError
from optduel.components.storage import publish
target = pathlib.Path(sys.argv[1]) / "a.bin"
publish(target, b"old")
try:
    publish(target, bytes(8 << 20))
except StorageError as error:
    print(error)
print(sorted(path.name for path in target.parent.iterdir()), target.read_bytes())
"""


def test_a_full_disk_is_named_and_leaves_the_old_content(tmp_path: Path) -> None:
    mount = 'mount -t tmpfs -o size=1m none "$1" && shift && exec "$@"'
    inside = ("unshare", "--user", "--map-root-user", "--mount", "sh", "-c", mount, "sh", str(tmp_path))
    if run("", prefix=inside).returncode != 0:
        pytest.skip("this machine lets no test mount a small disk")
    finished = run(FULL_DISK, str(tmp_path), prefix=inside)
    message, left = finished.stdout.splitlines()
    remedy = "free some space there or choose another place"
    assert message == f"{tmp_path}/a.bin: No space left on device; {remedy}"
    assert left == "['a.bin'] b'old'"


def test_a_file_too_large_for_the_place_leaves_the_old_content(tmp_path: Path) -> None:
    limit = "import resource, signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
    limit += "resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))\n"
    finished = run(limit + FULL_DISK, str(tmp_path))
    message, left = finished.stdout.splitlines()
    assert message == f"{tmp_path}/a.bin: File too large; check the place"
    assert left == "['a.bin'] b'old'"


@pytest.mark.parametrize("old", [None, b"old"], ids=["new", "overwrite"])
def test_a_process_killed_in_mid_write_publishes_nothing(tmp_path: Path, old: bytes | None) -> None:
    target = tmp_path / "a.bin"
    if old is not None:
        publish(target, old)
    code = """
import pathlib, sys, time
from optduel.components.storage import publishing
with publishing(pathlib.Path(sys.argv[1])) as file:
    file.write(b"half of the new con")
    file.flush()
    print("written", flush=True)
    time.sleep(60)
"""
    command = [sys.executable, "-c", code, str(target)]
    with subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "written\n"
        writer.kill()
        assert writer.wait() == -signal.SIGKILL
    assert (target.read_bytes() if target.exists() else None) == old
    publish(target, b"next")
    assert target.read_bytes() == b"next"


def test_whenever_a_process_is_killed_the_file_is_one_whole_version(tmp_path: Path) -> None:
    target = tmp_path / "a.bin"
    versions = (b"a" * (4 << 20), b"b" * (4 << 20))
    publish(target, versions[0])
    code = """
import itertools, pathlib, sys
from optduel.components.storage import publish
for letter in itertools.cycle(b"ba"):
    publish(pathlib.Path(sys.argv[1]), bytes([letter]) * (4 << 20))
    print("published", flush=True)
"""
    for attempt in range(5):
        command = [sys.executable, "-c", code, str(target)]
        with subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True) as writer:
            assert writer.stdout is not None
            for _ in range(attempt + 1):
                writer.stdout.readline()
            writer.kill()
        assert target.read_bytes() in versions


def test_reading_what_is_not_there_names_the_place_and_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(RefusedError) as raised:
        read(tmp_path / "absent")
    assert str(raised.value) == f"{tmp_path}/absent: No such file or directory; check the spelling"


def test_a_folder_in_the_way_is_named(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    with pytest.raises(RefusedError, match=rf"^{tmp_path}/a: Is a directory; give a file$"):
        publish(tmp_path / "a", b"")
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    (tmp_path / "b").touch()
    with pytest.raises(RefusedError, match=r"b: (File exists|Not a directory); "):
        publish(tmp_path / "b" / "c", b"")


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        (errno.EACCES, RefusedError),
        (errno.EPERM, RefusedError),
        (errno.EROFS, RefusedError),
        (errno.ENOTDIR, RefusedError),
        (errno.ENOSPC, StorageError),
        (errno.EIO, StorageError),
        (errno.ESTALE, StorageError),
    ],
    ids=errno.errorcode.get,
)
def test_what_comes_again_every_time_is_told_from_what_may_pass(
    number: int, kind: type[StorageError], tmp_path: Path
) -> None:
    error = as_storage_error(OSError(number, os.strerror(number)), tmp_path)
    assert type(error) is kind
    assert error.worker_exit_code == (78 if kind is RefusedError else 75)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_place_without_permission_is_named(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(StorageError, match=os.strerror(errno.EACCES)):
        publish(tmp_path / "a", b"")


def test_what_killed_writers_left_is_removed_and_nothing_else(tmp_path: Path) -> None:
    for place in (tmp_path / "a.bin", tmp_path / "below" / "b.bin"):
        publish(place, b"whole")
        (place.parent / f".{place.name}.abcd1234.part").write_bytes(b"half")
    (tmp_path / "c.part").write_bytes(b"of someone else")
    delete_unfinished(f"file://{tmp_path}")
    left = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file())
    assert left == ["a.bin", "below/b.bin", "c.part"]
    delete_unfinished(tmp_path / "absent")
    delete_unfinished("gs://bucket/has/none")
