"""Rows of results: one Parquet file that pandas, DuckDB or anything else reads, and tables in the terminal."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from distreid.common.files import atomic_write

Row = dict[str, Any]


def write_rows(path: Path, rows: Sequence[Row], about: Mapping[str, str] | None = None) -> None:
    """Write rows as Parquet, atomically: a column for every key of any row, null where a row lacks it.

    about: text kept in the file's metadata.
    """
    names = list(dict.fromkeys(name for row in rows for name in row))
    table = pa.table({name: _column([row.get(name) for row in rows]) for name in names})
    with atomic_write(path) as stream:
        pq.write_table(table.replace_schema_metadata(dict(about or {})), stream)


def _column(values: list[Any]) -> pa.Array:
    """Of one type; settings of several types (a number or a word) become text."""
    try:
        return pa.array(values)
    except (pa.ArrowInvalid, pa.ArrowTypeError):
        return pa.array([None if value is None else str(value) for value in values])


def cell(value: Any) -> str:
    """A setting or a figure to read: floats to four digits, what is not there as a dash."""
    return "–" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)
