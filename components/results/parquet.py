"""Tables as Parquet files, which pandas, DuckDB and BigQuery read without this code: schema, bytes, rows.

pyarrow writes to memory only; what publishes an object whole is `optduel.components.storage`.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from optduel.components.core.errors import DataError

TABLE_KEY, VERSION_KEY = b"optduel.table", b"optduel.schema_version"
"""In the metadata of every file: which table it is a part of, and the version of that table's schema."""


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes:
        type: Arrow's name for it: "string", "int64", "float64" or "timestamp[us]".
        unit: of its values, in the field's metadata; empty where they have none.
        description: in the field's metadata, too.
    """

    name: str
    type: str
    unit: str
    description: str


@dataclass(frozen=True)
class Schema:
    """The columns of a table, in order. Another set of columns, types or units is another version."""

    table: str
    version: int
    columns: tuple[Column, ...]


def encode(schema: Schema, rows: Iterable[Mapping[str, Any]]) -> bytes:
    """A Parquet file. Equal rows give equal bytes under one release of pyarrow.

    Args:
        schema: of the table.
        rows: as values by column; times are in UTC and do not say so, which every reader understands.
    """
    import pyarrow
    from pyarrow import parquet

    table = pyarrow.Table.from_pylist(list(rows), schema=_arrow_schema(schema))
    buffer = pyarrow.BufferOutputStream()
    parquet.write_table(table, buffer, write_page_checksum=True)
    content: bytes = buffer.getvalue().to_pybytes()
    return content


def decode(schema: Schema, content: bytes, where: str) -> list[dict[str, Any]]:
    """The rows of a Parquet file, as values by column.

    Args:
        schema: that the file must have.
        content: of the file.
        where: names the file in messages.

    Raises:
        DataError: the file is damaged, or is no such table of this version.
    """
    import pyarrow
    from pyarrow import parquet

    try:
        file = parquet.ParquetFile(pyarrow.BufferReader(content), page_checksum_verification=True)
        found = file.schema_arrow
        _check(schema, found.metadata or {}, where)
        if not found.equals(_arrow_schema(schema)):
            raise DataError(f"{where}: has other columns than version {schema.version} of its table")
        rows: list[dict[str, Any]] = file.read().to_pylist()
    except (pyarrow.ArrowException, OSError) as error:
        cause = (str(error).splitlines() or [type(error).__name__])[0]
        raise DataError(f"{where}: not a Parquet file, or a damaged one: {cause}") from error
    return rows


def _arrow_schema(schema: Schema) -> Any:
    import pyarrow

    fields = [
        pyarrow.field(
            column.name,
            pyarrow.type_for_alias(column.type),
            metadata={"unit": column.unit, "description": column.description},
        )
        for column in schema.columns
    ]
    return pyarrow.schema(
        fields, metadata={TABLE_KEY: schema.table.encode(), VERSION_KEY: str(schema.version).encode()}
    )


def _check(schema: Schema, metadata: Mapping[bytes, bytes], where: str) -> None:
    table = metadata.get(TABLE_KEY, b"").decode(errors="replace")
    if table != schema.table:
        raise DataError(f"{where}: holds the table {table!r}, not {schema.table!r}; give one of those")
    version = metadata.get(VERSION_KEY, b"").decode(errors="replace")
    if version != str(schema.version):
        raise DataError(
            f"{where}: schema version = {version}: this code reads {schema.version}; "
            "use the release that wrote it"
        )
