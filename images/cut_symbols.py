"""Cuts the symbol tables off the shared libraries of a folder: `cut_symbols.py FOLDER`.

They stand behind all that is loaded, and only debuggers read them; TensorFlow's wheel has 230 MB of them.
Binutils' strip, which would do it, is not in the base image, and brings an assembler and a linker.
"""

import struct
import sys
from pathlib import Path

_ELF64_LITTLE_ENDIAN = b"\x7fELF\x02\x01"


def cut(path: Path) -> None:
    """Ends a library behind the last byte that its program headers name.

    Offsets are those of the ELF-64 object file format.
    """
    with path.open("r+b") as file:
        header = file.read(64)
        if not header.startswith(_ELF64_LITTLE_ENDIAN):
            return
        (table,) = struct.unpack_from("<Q", header, 32)
        entry_size, entries = struct.unpack_from("<HH", header, 54)
        file.seek(table)
        segments = [file.read(entry_size) for _ in range(entries)]
        ends = [sum(struct.unpack_from("<Q", segment, at)[0] for at in (8, 32)) for segment in segments]
        file.truncate(max(ends))
        # No table of sections any more: its place, its number of entries and the index of their names.
        file.seek(40)
        file.write(bytes(8))
        file.seek(60)
        file.write(bytes(4))


for library in Path(sys.argv[1]).rglob("*.so*"):
    if not library.is_symlink():
        cut(library)
