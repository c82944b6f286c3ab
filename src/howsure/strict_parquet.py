"""Parquet files that someone else wrote, or a crash damaged: whatever is wrong is a ValueError."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pyarrow as pa


def read(path: Path, columns: Sequence[str], only: Sequence[str] | None = None) -> pa.Table:
    """The table of a file that must have just these columns; of them `only` some are read.

    Raises FileNotFoundError, and ValueError as `read_any` does and for other columns.
    """
    return _read(path, columns, only)


def read_any(path: Path) -> pa.Table:
    """The table of a file, whatever its columns are.

    Checksums are verified, texts are UTF-8, and nothing beside the columns is kept of it, which
    other libraries might stumble over. Raises FileNotFoundError, and ValueError with a short
    reason for what can't be read or is not whole.
    """
    return _read(path, None, None)


def _read(path: Path, columns: Sequence[str] | None, only: Sequence[str] | None) -> pa.Table:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            stated, names = file.metadata.num_rows, file.schema_arrow.names
            if columns is not None and names != list(columns):
                raise ValueError(f"it has the columns {names}, not {list(columns)}")
            table = file.read(None if only is None else list(only))
            table.validate(full=True)
            fields = [pa.field(f.name, f.type, f.nullable) for f in table.schema]
            _ = str(table.schema)  # a type's own texts are decoded only here
    except FileNotFoundError:
        raise
    except (OSError, UnicodeDecodeError, pa.ArrowException) as error:
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise ValueError(reason[:300]) from None
    if table.num_rows != stated:  # the counts are in the footer, which has no checksum
        raise ValueError(f"it has {table.num_rows} of {stated} rows")
    return pa.Table.from_arrays(table.columns, schema=pa.schema(fields))
