"""The side file of refused rows: every one with its file, row, reason and content."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tesserec.data.cells import as_json
from tesserec.data.records import Chunk, Counts
from tesserec.data.schemas import QUARANTINE


class Quarantine:
    """Writes `quarantine.parquet` as the rows come, and counts them by reason."""

    def __init__(self, path: Path, counts: Counts) -> None:
        self._writer = pq.ParquetWriter(path, QUARANTINE, compression="zstd")
        self._counts = counts
        self.examples: dict[str, list[str]] = {"interactions": [], "items": []}

    def __enter__(self) -> Quarantine:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._writer.close()

    def add(self, table: str, chunk: Chunk, reasons: np.ndarray) -> None:
        """Take in a chunk's unreadable lines and those of its rows that have a reason."""
        places = np.flatnonzero(reasons != "")
        rows = [
            (int(chunk.rows[place]), str(reasons[place]), as_json(record))
            for place, record in zip(places, _records(chunk.table, places), strict=True)
        ]
        rows += [(bad.row, bad.reason, bad.record) for bad in chunk.bad]
        if not rows:
            return
        rows.sort(key=lambda row: row[0])
        number, reason, record = (list(column) for column in zip(*rows, strict=True))
        for why in reason:
            self._counts.refuse(table, why)
        shown = self.examples[table]
        for at, why, what in rows[: max(0, 3 - len(shown))]:
            shown.append(f"{chunk.file} row {at}: {why}: {what[:200]}")
        n = len(rows)
        columns = [[table] * n, [chunk.file] * n, number, reason, record]
        arrays = [pa.array(c, f.type) for c, f in zip(columns, QUARANTINE, strict=True)]
        self._writer.write_table(pa.Table.from_arrays(arrays, schema=QUARANTINE))


def _records(table: pa.Table, places: np.ndarray) -> list[dict[str, object]]:
    bad = table.take(pa.array(places))
    for i, field in enumerate(bad.schema):  # text from Parquet may not be UTF-8: show its bytes
        if pa.types.is_string(field.type) or pa.types.is_large_string(field.type):
            bad = bad.set_column(i, field.name, bad.column(i).cast(pa.large_binary()))
    return bad.to_pylist()
