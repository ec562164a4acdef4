"""Files -> chunks, as a stream: Parquet, delimited text and JSON lines, plain or gzip."""

from __future__ import annotations

import csv
import difflib
import gzip
import json
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tesserec.data.cells import strings
from tesserec.data.records import BATCH_ROWS, Bad, Chunk
from tesserec.errors import DataError, UsageError

MAX_RECORD = 2_000  # characters of a bad line that the quarantine file keeps


def need_file(folder: Path, name: str) -> Path:
    """The path of a file that must be there and hold something.

    Raises:
        UsageError: no such folder or file.
        DataError: the file is empty.
    """
    if not folder.is_dir():
        raise UsageError(f"there is no folder {folder}; set data.path")
    path = folder / name
    if not path.is_file():
        have = ", ".join(sorted(p.name for p in folder.iterdir())[:8]) or "nothing"
        raise UsageError(f"there is no {name} in {folder} (it has: {have})")
    if path.stat().st_size == 0:
        raise DataError(f"{path.name} is empty (0 bytes); write or fetch it again")
    return path


def mapped(
    names: Sequence[str], columns: Mapping[str, str], required: Sequence[str], file: str
) -> dict[str, str]:
    """Which of `columns` {ours: theirs} the file has.

    Raises:
        DataError: it lacks a required one; the message names what it has and the nearest name.
    """
    for ours in required:
        theirs = columns.get(ours, ours)
        if theirs not in names:
            near = difflib.get_close_matches(theirs, names, n=1)
            hint = f"; did you mean '{near[0]}'?" if near else ""
            raise DataError(
                f"{file} has no column '{theirs}' for '{ours}' (it has: {', '.join(names)}){hint} "
                f"Map it in data.columns, as {ours}: name"
            )
    return {ours: theirs for ours, theirs in columns.items() if theirs in names}


def read_parquet(
    path: Path, columns: Mapping[str, str], required: Sequence[str]
) -> Iterator[Chunk]:
    """Chunks of a Parquet file; `columns` {ours: theirs}.

    Raises:
        DataError: not Parquet, cut short, or without a required column.
    """
    try:
        with pq.ParquetFile(path) as file:
            names = file.schema_arrow.names
            use = mapped(names, columns, required, path.name)
            unused = [name for name in names if name not in use.values()]
            row = 0
            for batch in file.iter_batches(BATCH_ROWS, columns=sorted(set(use.values()))):
                table = pa.table({ours: batch.column(theirs) for ours, theirs in use.items()})
                yield Chunk(table, path.name, np.arange(row, row + len(batch)), unused=unused)
                row += len(batch)
    except (pa.ArrowInvalid, OSError) as error:
        raise DataError(
            f"{path.name} is not a whole Parquet file ({error}); write or fetch it again"
        ) from None


@contextmanager
def opened(path: Path) -> Iterator[BinaryIO]:
    """The bytes of a file, unpacked if it is gzip.

    Raises:
        DataError: the gzip stream is cut short or damaged (raised where the reading meets it).
    """
    with path.open("rb") as probe:
        packed = probe.read(2) == b"\x1f\x8b"
    if path.suffix == ".gz" and not packed:
        raise DataError(f"{path.name} is not gzip, whatever its name says; fetch it again")
    try:
        with gzip.open(path, "rb") if packed else path.open("rb") as stream:
            yield cast(BinaryIO, stream)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(
            f"{path.name} is a truncated or damaged gzip file ({error}); fetch it again"
        ) from None


def read_json_lines(
    path: Path,
    pick: Callable[[dict[str, Any]], dict[str, Any]],
    columns: Sequence[str],
    *,
    parse: Callable[[str], Any] = json.loads,
    on_none: Callable[[], None] | None = None,
    limit_bytes: int | None = None,
    unused: Sequence[str] = (),
) -> Iterator[Chunk]:
    """Chunks of a file with one JSON object a line.

    `pick` turns an object into {our column: text, list of text or None}. A line that is no object
    is bad; with `on_none` given, `parse` may return None for a line to pass over, which is told.
    """
    with opened(path) as stream:
        rows = _json_rows(_upto(stream, limit_bytes), pick, columns, parse, on_none)
        yield from _gather(rows, columns, path.name, unused)


Row = tuple[int, Sequence[Any] | Bad]  # number in the file, cells in the order of the columns


def _upto(stream: BinaryIO, limit_bytes: int | None) -> Iterator[bytes]:
    read = 0
    for line in stream:
        read += len(line)
        if limit_bytes is not None and read > limit_bytes:
            return
        yield line


def _json_rows(
    lines: Iterable[bytes],
    pick: Callable[[dict[str, Any]], dict[str, Any]],
    columns: Sequence[str],
    parse: Callable[[str], Any],
    on_none: Callable[[], None] | None,
) -> Iterator[Row]:
    for row, line in enumerate(lines):
        if not line.strip():
            continue
        text = line.decode("utf-8", "surrogateescape")
        try:
            record = parse(text)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            torn = " (it has no end)" if not line.endswith(b"\n") else ""
            yield row, Bad(row, f"the line is not JSON{torn}", _shown(text))
            continue
        if record is None and on_none is not None:
            on_none()
        elif isinstance(record, dict):
            picked = pick(record)
            yield row, [picked.get(name) for name in columns]
        else:
            yield row, Bad(row, "the line is not a JSON object", _shown(text))


def read_delimited(
    path: Path,
    columns: Mapping[str, str],
    required: Sequence[str],
    *,
    delimiter: str = ",",
    header: Sequence[str] | None = None,
    encoding: str = "utf-8-sig",
    quoted: bool = True,
) -> Iterator[Chunk]:
    """Chunks of a CSV file, or of one with another delimiter; all cells are text.

    `header` names the columns of a file that has no header line. Without `quoted`, quotes are
    plain letters and the delimiter may be longer than one.

    Raises:
        DataError: no rows, no required column, or a quoted field that never ends.
    """
    with opened(path) as stream:
        lines = (
            line.decode(encoding if i == 0 else encoding.removesuffix("-sig"), "surrogateescape")
            for i, line in enumerate(stream)
        )
        rows = _csv_rows(lines, delimiter, path.name, quoted)
        names = list(header) if header else next(rows, None)
        if not names or isinstance(names, Bad):
            raise DataError(f"{path.name} is empty; write a header line and rows")
        names = [name.strip() for name in names]
        use = mapped(names, columns, required, path.name)
        unused = [name for name in names if name not in use.values()]
        places = [names.index(theirs) for theirs in use.values()]
        yield from _gather(_picked(rows, places, len(names)), list(use), path.name, unused)


def _csv_rows(
    lines: Iterable[str], delimiter: str, file: str, quoted: bool
) -> Iterator[list[str] | Bad]:
    if not quoted:
        for line in lines:
            if line.strip():
                yield line.rstrip("\r\n").split(delimiter)
        return
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    while True:
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            if "unexpected end" in str(error) or "field larger" in str(error):
                raise DataError(
                    f"{file}: a quote before line {reader.line_num} never ends; close it"
                ) from None
            yield Bad(reader.line_num - 1, f"the line is not CSV: {error}", "")
            continue
        if row:
            yield row


def _picked(rows: Iterator[list[str] | Bad], places: Sequence[int], width: int) -> Iterator[Row]:
    for i, row in enumerate(rows):
        if isinstance(row, Bad):
            yield i, Bad(i, row.reason, row.record)
        elif len(row) != width:
            reason = (
                f"the row has {len(row)} fields, not {width}"
                if width < 30
                else "the row has another number of fields"
            )
            yield i, Bad(i, reason, _shown(" | ".join(row)))
        else:
            yield i, [row[at] for at in places]


def _gather(
    rows: Iterator[Row], columns: Sequence[str], file: str, unused: Sequence[str]
) -> Iterator[Chunk]:
    """Collect BATCH_ROWS rows at a time into chunks."""
    held: list[Sequence[Any]] = []
    numbers: list[int] = []
    bad: list[Bad] = []

    def chunk() -> Chunk:
        cells = zip(*held, strict=True) if held else ([] for _ in columns)
        table = pa.table({name: _array(list(c)) for name, c in zip(columns, cells, strict=True)})
        return Chunk(table, file, np.array(numbers, np.int64), tuple(bad), unused)

    for number, row in rows:
        if isinstance(row, Bad):
            bad.append(row)
        else:
            held.append(row)
            numbers.append(number)
        if len(held) + len(bad) >= BATCH_ROWS:
            yield chunk()
            held, numbers, bad = [], [], []
    if held or bad:
        yield chunk()


def _array(values: list[Any]) -> pa.Array:
    if any(type(value) is list for value in values):
        rows = [v if v is None or isinstance(v, list) else [v] for v in values]
        flat = strings([str(cell) for row in rows if row for cell in row])
        ends = np.cumsum([0] + [len(row or ()) for row in rows]).astype(np.int32)
        return pa.ListArray.from_arrays(pa.array(ends), flat)
    return strings(values)


def _shown(text: str) -> str:
    return text.strip()[:MAX_RECORD].encode("utf-8", "backslashreplace").decode()
