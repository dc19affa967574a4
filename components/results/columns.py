"""Tables as Parquet files, which pandas, DuckDB and BigQuery read without this code: schema, bytes, rows.

pyarrow writes to memory only; what publishes an object whole is `optduel.components.storage`.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from optduel.components.core import DataError

if TYPE_CHECKING:
    import pyarrow

TABLE_KEY, VERSION_KEY = b"optduel.table", b"optduel.schema_version"
"""In the metadata of every file: which table it is a part of, and the version of that table's schema."""


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes:
        type: Arrow's name for it: "string", "int64", "float64" or "timestamp[us]"; "list<float64>" for
            measured numbers, which are stored as they are, without looking for equal ones.
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

    return encode_arrow(schema, pyarrow.Table.from_pylist(list(rows), schema=arrow_schema(schema)))


def encode_arrow(schema: Schema, table: "pyarrow.Table") -> bytes:
    """`encode` of a table that pyarrow has already; more metadata than the schema's is kept."""
    import pyarrow
    from pyarrow import parquet

    lists = [column.name for column in schema.columns if column.type.startswith(_LIST)]
    buffer = pyarrow.BufferOutputStream()
    parquet.write_table(
        table,
        buffer,
        write_page_checksum=True,
        use_dictionary=[column.name for column in schema.columns if column.name not in lists],
        compression={
            f"{column.name}.list.element" if column.name in lists else column.name: (
                "none" if column.name in lists else "snappy"
            )
            for column in schema.columns
        },
    )
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
    try:
        rows: list[dict[str, Any]] = decode_arrow(schema, content, where).to_pylist()
    except (ValueError, OverflowError) as error:  # bytes that are no UTF-8, or no time of Python's
        raise _damaged(where, error) from error
    return rows


def decode_arrow(schema: Schema, content: bytes, where: str) -> "pyarrow.Table":
    """`decode`, before values become Python's. Raises as that does."""
    import pyarrow
    from pyarrow import parquet

    try:
        file = parquet.ParquetFile(pyarrow.BufferReader(content), page_checksum_verification=True)
        found = file.schema_arrow
        _check(schema, found.metadata or {}, where)
        if not found.equals(arrow_schema(schema)):
            raise DataError(f"{where}: has other columns than version {schema.version} of its table")
        # Equal values take no room in a file, but memory here.
        if max(file.metadata.num_rows, _most_values(file.metadata)) > len(content):
            raise DataError(f"{where}: more rows than bytes: this is no table that was measured")
        # Without threads: those of pyarrow's pool may abort a process that ends right after reading.
        return file.read(use_threads=False)
    except (pyarrow.ArrowException, OSError, ValueError, OverflowError) as error:
        raise _damaged(where, error) from error


def arrow_schema(schema: Schema) -> "pyarrow.Schema":
    """The schema as pyarrow has it."""
    import pyarrow

    fields = [
        pyarrow.field(
            column.name,
            _arrow_type(column.type),
            metadata={"unit": column.unit, "description": column.description},
        )
        for column in schema.columns
    ]
    return pyarrow.schema(
        fields, metadata={TABLE_KEY: schema.table.encode(), VERSION_KEY: str(schema.version).encode()}
    )


_LIST = "list<"


def _arrow_type(name: str) -> Any:
    import pyarrow

    if name.startswith(_LIST):
        return pyarrow.list_(pyarrow.type_for_alias(name.removeprefix(_LIST).removesuffix(">")))
    return pyarrow.type_for_alias(name)


def _most_values(metadata: Any) -> int:
    """Of one column, those within lists included."""
    groups = [metadata.row_group(number) for number in range(metadata.num_row_groups)]
    return max(
        (sum(group.column(number).num_values for group in groups) for number in range(metadata.num_columns)),
        default=0,
    )


def _damaged(where: str, error: Exception) -> DataError:
    cause = (str(error).splitlines() or [type(error).__name__])[0]
    return DataError(f"{where}: not a Parquet file, or a damaged one: {cause}")


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
