"""A table of one's own: a CSV or Parquet file with a row for each image."""

import codecs
import csv
import io
import os
import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa

from distreid.common.errors import UserError
from distreid.common.text import plural
from distreid.data.readers.files import TABLE_SUFFIXES, sample
from distreid.data.readers.labelled import Found, make_dataset
from distreid.data.readers.patterns import NOBODY, whole_camid
from distreid.data.records import UNKNOWN, Dataset

COLUMNS = ("path", "pid", "camid", "split")
NEEDED = ("path", "pid")
SPLITS = ("train", "query", "gallery")


def read(table: Path) -> Dataset:
    """``--format table``: columns path (relative to the table's folder), pid, and if need be camid and split; others are ignored.

    An empty pid or camid, or -1, is an unknown one; without the column split all images are for training. Raises `UserError` for
    what cannot be read, missing columns, cameras that are no whole number, unknown splits, and paths that are missing or twice.
    """
    rows = _rows(table)
    if not rows:
        raise UserError(f"{table}: has no row; it needs one for each image")
    folder = Path(os.path.abspath(table.parent))  # noqa: PTH100 - links stay as they are, .. goes
    paths = [Path(os.path.normpath(folder / row["path"])) for row in rows]
    _check_paths(table, rows, paths)
    strange = Counter(row["split"] for row in rows if row["split"] not in SPLITS)
    if strange:
        listed = sample([f"'{split}' ({count:,})" for split, count in strange.items()])
        raise UserError(f"{table}: unknown splits {listed}; choose from {', '.join(SPLITS)}")
    found = [
        Found(
            path,
            None if row["pid"] in ("", NOBODY) else row["pid"],
            UNKNOWN if row["camid"] in ("", NOBODY) else whole_camid(row["camid"], f"{table}: row {number}"),
            row["split"],
        )
        for number, (path, row) in enumerate(zip(paths, rows, strict=True), start=1)
    ]
    # The table's folder, or, if an image lies elsewhere, the deepest one that holds them all.
    inside = all(path.is_relative_to(folder) for path in paths)
    root = folder if inside else Path(os.path.commonpath([path.parent for path in paths]))
    return make_dataset(table.stem, "table", root, found, place=table)


def _rows(table: Path) -> list[dict[str, str]]:
    """Every row's `COLUMNS` as text; of a column that is not there, what stands for it."""
    if not table.exists():
        raise UserError(f"{table}: no such file; check the path")
    if table.suffix.lower() not in TABLE_SUFFIXES or table.is_dir():
        raise UserError(f"{table}: is no table; --format table reads {', '.join(TABLE_SUFFIXES)}")
    names, rows = _parquet(table) if table.suffix.lower() == ".parquet" else _csv(table)
    missing = [column for column in NEEDED if column not in names]
    if missing:
        raise UserError(f"{table}: has no column {' and no '.join(missing)}; it has {sample(names, 8) or 'none'}")
    absent = {column: "train" if column == "split" else "" for column in COLUMNS if column not in names}
    return [absent | {column: _text(row[column]) for column in COLUMNS if column in names} for row in rows]


def _csv(table: Path) -> tuple[list[str], list[dict[str, Any]]]:
    """Also as spreadsheets write it: with a byte order mark, in UTF-16, with semicolons."""
    data = table.read_bytes()
    wide = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        text = data.decode("utf-16" if wide else "utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{table}: is not in UTF-8 ({error.reason} at byte {error.start}); save it so") from None
    delimiter = max((",", ";", "\t"), key=text.partition("\n")[0].count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    try:
        names = [name.strip() for name in next(reader, [])]
        rows = [(reader.line_num, row) for row in reader if row]
    except csv.Error as error:
        raise UserError(f"{table}: line {reader.line_num} cannot be read ({error})") from None
    bad = [number for number, row in rows if len(row) != len(names)]
    if bad:
        raise UserError(f"{table}: {plural(len(bad), 'line')} with another number of columns than the first line: {sample(bad)}")
    return names, [dict(zip(names, row, strict=True)) for _, row in rows]


def _parquet(table: Path) -> tuple[list[str], Iterable[dict[str, Any]]]:
    from pyarrow import parquet

    try:
        names = parquet.read_schema(table).names
        return names, parquet.read_table(table, columns=[name for name in COLUMNS if name in names]).to_pylist()
    except (pa.ArrowInvalid, OSError) as error:
        raise UserError(f"{table}: no Parquet file, or cut short ({str(error).splitlines()[0]})") from None


def _text(value: Any) -> str:
    """A cell; whole numbers that became 3.0 where others of their column were empty are whole again."""
    text = "" if value is None or value != value else str(value).strip()
    return re.sub(r"^(-1|\d+)\.0+$", r"\1", text)


def _check_paths(table: Path, rows: list[dict[str, str]], paths: list[Path]) -> None:
    written = dict(zip(paths, (row["path"] for row in rows), strict=True))
    twice = [written[path] for path, count in Counter(paths).items() if count > 1]
    if twice:
        raise UserError(f"{table}: {plural(len(twice), 'path')} in more than one row: {sample(twice)}; keep one of each")
    missing = [name or "(empty)" for path, name in written.items() if not name or not path.is_file()]
    if missing:
        raise UserError(
            f"{table}: {len(missing):,} of {plural(len(paths), 'image')} missing: {sample(missing)}; "
            f"paths are relative to {table.parent}"
        )
