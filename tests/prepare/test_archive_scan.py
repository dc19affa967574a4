import bz2
import contextlib
import gzip
import io
import lzma
import stat
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest

from optduel.components.core import DataError
from optduel.components.prepare.sources import archives as archive_scan
from optduel.components.prepare.sources.archives import scan_archive

Member = tuple[tarfile.TarInfo, bytes]


def regular(name: str, content: bytes = b"x" * 100) -> Member:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    return member, content


def special(name: str, kind: bytes, target: str = "") -> Member:
    member = tarfile.TarInfo(name)
    member.type = kind
    member.linkname = target
    return member, b""


def write_tar(path: Path, members: list[Member], mode: str = "w:gz") -> Path:
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
        for member, content in members:
            archive.addfile(member, io.BytesIO(content))
    return path


def write_zip(path: Path, members: dict[str, bytes], mode: int = stat.S_IFREG) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            info = zipfile.ZipInfo(name)
            info.external_attr = (mode | 0o644) << 16
            info.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(info, content)
    return path


GOOD = [
    special("flowers", tarfile.DIRTYPE),
    regular("flowers/daisy/1.jpg"),
    special("flowers/daisy/2.jpg", tarfile.SYMTYPE, "1.jpg"),
    special("flowers/roses/3.jpg", tarfile.SYMTYPE, "../daisy/1.jpg"),
    special("flowers/roses/4.jpg", tarfile.LNKTYPE, "flowers/daisy/1.jpg"),
]


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
def test_a_harmless_tar_passes(tmp_path: Path, mode: str) -> None:
    scan_archive(write_tar(tmp_path / "flowers.tar", GOOD, mode))


def test_a_harmless_zip_passes(tmp_path: Path) -> None:
    scan_archive(write_zip(tmp_path / "flowers.zip", {"daisy/": b"", "daisy/1.jpg": b"x" * 100}))


@pytest.mark.parametrize("name", ["labels.mat", "batch.bin", "notes"])
def test_a_file_that_is_no_archive_passes(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"plain content" * 100)
    scan_archive(tmp_path / name)


@pytest.mark.parametrize("opener", [gzip.open, bz2.open, lzma.open], ids=["gz", "bz2", "xz"])
def test_a_single_compressed_file_passes(tmp_path: Path, opener: type) -> None:
    with opener(tmp_path / "images-ubyte.z", "wb") as file:
        file.write(bytes(range(256)) * 1000)
    scan_archive(tmp_path / "images-ubyte.z")


@pytest.mark.parametrize(
    ("member", "reason"),
    [
        (regular("../evil.jpg"), "'../evil.jpg' leads out of the archive"),
        (regular("flowers/../../evil.jpg"), "'flowers/../../evil.jpg' leads out of the archive"),
        (regular("/etc/evil"), "'/etc/evil' leads out of the archive"),
        (
            special("a/link", tarfile.SYMTYPE, "../../etc"),
            "'a/link' is a link that leads out .*'a/../../etc'",
        ),
        (special("link", tarfile.SYMTYPE, "/etc/passwd"), "'link' is a link that leads out .*'/etc/passwd'"),
        (special("a/b/hard", tarfile.LNKTYPE, "../x"), "'a/b/hard' is a link that leads out of the archive"),
        (special("disk", tarfile.BLKTYPE), "'disk' is a device or another special file"),
        (special("console", tarfile.CHRTYPE), "'console' is a device or another special file"),
        (special("pipe", tarfile.FIFOTYPE), "'pipe' is a device or another special file"),
    ],
    ids=lambda value: value[0].name if isinstance(value, tuple) else "",
)
def test_a_tar_that_climbs_out_is_refused(tmp_path: Path, member: Member, reason: str) -> None:
    path = write_tar(tmp_path / "flowers.tgz", [*GOOD, member])
    with pytest.raises(DataError, match=f"flowers.tgz: member {reason}"):
        scan_archive(path)


def test_a_member_below_a_link_is_refused(tmp_path: Path) -> None:
    # Each link is harmless by its text; unpacked one after the other, the second leaves.
    members = [special("a/b/up", tarfile.SYMTYPE, "../.."), special("a/b/up/out", tarfile.SYMTYPE, "../..")]
    with pytest.raises(DataError, match="member 'a/b/up/out' lies below a link"):
        scan_archive(write_tar(tmp_path / "flowers.tgz", members))


@pytest.mark.parametrize("name", ["../evil.jpg", "daisy/../../evil.jpg", "/etc/evil"])
def test_a_zip_that_climbs_out_is_refused(tmp_path: Path, name: str) -> None:
    path = write_zip(tmp_path / "flowers.zip", {"daisy/1.jpg": b"x", name: b"x"})
    with pytest.raises(DataError, match=f"member '{name}' leads out of the archive; do not use this file"):
        scan_archive(path)


@pytest.mark.parametrize(
    ("content", "kind", "reason"),
    [
        (b"../../etc/passwd", stat.S_IFLNK, r"is a link that leads out .*'daisy/\.\./\.\./etc/passwd'"),
        (b"/etc/passwd", stat.S_IFLNK, "is a link that leads out of the archive: '/etc/passwd'"),
        (b"a" * 5000, stat.S_IFLNK, "is a link of 5,000 bytes"),
        (b"", stat.S_IFCHR, "is a device or another special file"),
    ],
)
def test_links_and_devices_in_a_zip_are_refused(
    tmp_path: Path, content: bytes, kind: int, reason: str
) -> None:
    path = write_zip(tmp_path / "flowers.zip", {"daisy/1.jpg": content}, kind)
    with pytest.raises(DataError, match=f"member 'daisy/1.jpg' {reason}"):
        scan_archive(path)


def test_a_link_within_a_zip_passes(tmp_path: Path) -> None:
    scan_archive(write_zip(tmp_path / "flowers.zip", {"daisy/1.jpg": b"../roses/2.jpg"}, stat.S_IFLNK))


@pytest.mark.parametrize("before", [b"\0", b"\x1f\x8b", b"#!/bin/sh\n", b"BM" + bytes(5000)])
def test_a_zip_with_something_before_it_is_scanned_too(tmp_path: Path, before: bytes) -> None:
    for members, reason in (
        ({"daisy/1.jpg": b"x", "../evil.jpg": b"x"}, "member '../evil.jpg' leads out of the archive"),
        ({"1.jpg": b"x", "zeros.jpg": bytes(100 * 2**20)}, "member 'zeros.jpg' takes it to"),
    ):
        path = write_zip(tmp_path / "flowers.zip", members)
        path.write_bytes(before + path.read_bytes())
        with pytest.raises(DataError, match=reason):
            scan_archive(path)


@pytest.mark.parametrize("depth", [5_000, 300_000])
def test_a_name_of_very_many_folders_is_refused_at_once(tmp_path: Path, depth: int) -> None:
    member = tarfile.TarInfo("a/" * depth + "1.jpg")
    (tmp_path / "deep.tar").write_bytes(member.tobuf(tarfile.PAX_FORMAT) + bytes(1024))
    with pytest.raises(DataError, match=r"member 'a/a.*\.\.\.' has a name of [\d,]+ characters|a header of"):
        scan_archive(tmp_path / "deep.tar")


def test_links_are_remembered_up_to_a_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive_scan, "LINK_LIMIT", 3)
    links = [special(f"a/{number}", tarfile.SYMTYPE, "b") for number in range(5)]
    scan_archive(write_tar(tmp_path / "few.tar", links[:3], "w"))
    with pytest.raises(DataError, match="member 'a/3' takes it past 3 links, the limit"):
        scan_archive(write_tar(tmp_path / "many.tar", links, "w"))


def check_random_archives(inputs: int, folder: Path) -> None:
    """Sound archives with bytes changed, cut out, repeated or put before: passed, or refused by name."""
    random = np.random.default_rng(11)
    names = ["flowers.tar", "flowers.tgz", "flowers.tar.bz2", "flowers.txz", "flowers.zip", "flowers"]
    write_tar(folder / names[0], GOOD, "w")
    for name, mode in zip(names[1:4], ("w:gz", "w:bz2", "w:xz"), strict=True):
        write_tar(folder / name, GOOD, mode)
    write_zip(folder / names[4], {"daisy/": b"", "daisy/1.jpg": b"x" * 100, "2.jpg": b"1.jpg"})
    (folder / names[5]).write_bytes(gzip.compress(bytes(range(256)) * 10))
    sound = {name: (folder / name).read_bytes() for name in names}
    for number in range(inputs):
        name = names[number % len(names)]
        content = bytearray(sound[name])
        for _ in range(int(random.integers(1, 5))):
            start = int(random.integers(0, len(content) + 1))
            length = int(random.integers(0, 40))
            match int(random.integers(0, 4)):
                case 0:
                    content[start : start + length] = random.bytes(length)
                case 1:
                    del content[start : start + length]
                case 2:
                    content[start:start] = content[start : start + length]
                case 3:
                    content[:0] = random.bytes(length)
        (folder / name).write_bytes(content)
        with contextlib.suppress(DataError):
            scan_archive(folder / name)


@pytest.mark.filterwarnings("ignore:Duplicate name:UserWarning")
def test_damaged_archives_pass_or_are_refused(tmp_path: Path) -> None:
    check_random_archives(600, tmp_path)


@pytest.mark.exhaustive
@pytest.mark.filterwarnings("ignore:Duplicate name:UserWarning")
def test_20_000_damaged_archives_pass_or_are_refused(tmp_path: Path) -> None:
    check_random_archives(20_000, tmp_path)


@pytest.mark.parametrize("kind", ["tar", "zip", "file"])
def test_a_bomb_is_refused_before_it_is_unpacked(tmp_path: Path, kind: str) -> None:
    zeros = bytes(100 * 2**20)
    path = tmp_path / "bomb"
    match kind:
        case "tar":
            write_tar(path, [regular("1.jpg"), regular("zeros.jpg", zeros)])
        case "zip":
            write_zip(path, {"1.jpg": b"x", "zeros.jpg": zeros})
        case "file":
            path.write_bytes(gzip.compress(zeros, 1))
    assert path.stat().st_size < 2**20
    member = "bomb" if kind == "file" else "zeros.jpg"
    with pytest.raises(DataError, match=f"member '{member}' takes it to .* more than 50 times as many"):
        scan_archive(path)


def test_very_many_empty_members_are_a_bomb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive_scan, "RATIO_FREE_BYTES", 2**20)  # the true one takes 130,000 members
    (tmp_path / "many.tgz").write_bytes(gzip.compress(tarfile.TarInfo("a").tobuf() * 100_000))
    with pytest.raises(DataError, match="member 'a' takes it to .* more than 50 times as many"):
        scan_archive(tmp_path / "many.tgz")


def test_a_header_of_gigabytes_is_refused_without_its_memory(tmp_path: Path) -> None:
    """tarfile reads an extended header at once; 4 GB of zeros compress to 4 MB, here it only claims them."""
    member = tarfile.TarInfo("huge")
    member.type = tarfile.XHDTYPE
    member.size = 4 * 2**30
    (tmp_path / "huge.tar").write_bytes(member.tobuf(tarfile.GNU_FORMAT) + bytes(2**20))
    program = f"""
import resource
from pathlib import Path
from optduel.components.core.errors import DataError
from optduel.components.prepare.sources.archives import scan_archive
in_use = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (in_use + 100 * 2**20, -1))
try:
    scan_archive(Path({str(tmp_path / "huge.tar")!r}))
except DataError as error:
    print(error)
"""
    finished = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True
    )
    assert "has a header of 4,294,967,296 bytes; do not use this file" in finished.stdout


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
def test_a_cut_archive_is_named(tmp_path: Path, mode: str) -> None:
    path = write_tar(
        tmp_path / "flowers.tar", [regular(f"{number}.jpg", bytes(2000)) for number in range(20)], mode
    )
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(DataError, match=r"flowers.tar: is damaged or cut off \(.*\); fetch it again"):
        scan_archive(path)


def test_an_archive_cut_between_two_members_is_named(tmp_path: Path) -> None:
    path = write_tar(
        tmp_path / "flowers.tar", [regular("1.jpg", bytes(512)), regular("2.jpg", bytes(512))], "w"
    )
    path.write_bytes(path.read_bytes()[: 2 * 512])
    with pytest.raises(DataError, match="is damaged or cut off"):
        scan_archive(path)


def test_a_cut_zip_is_named(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "flowers.zip", {"1.jpg": b"x" * 1000})
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(DataError, match="is damaged or cut off"):
        scan_archive(path)


def test_a_tar_by_name_only_is_damaged(tmp_path: Path) -> None:
    (tmp_path / "flowers.tgz").write_bytes(b"<html>not found</html>" * 100)
    with pytest.raises(DataError, match="is damaged or cut off"):
        scan_archive(tmp_path / "flowers.tgz")
