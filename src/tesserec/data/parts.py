"""Where kept rows go: Parquet parts of bounded size, and the catalogue of items."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from tesserec.data.clean import ItemCleaner
from tesserec.data.quarantine import Quarantine
from tesserec.data.records import Chunk, Counts, Source
from tesserec.data.schemas import ITEMS

PART_ROWS = 1 << 20
_log = logging.getLogger(__name__)


@dataclass
class Parts:
    """Writes `part-00000.parquet`, ... of at most PART_ROWS rows, one row group a chunk."""

    folder: Path
    schema: pa.Schema
    writer: pq.ParquetWriter | None = None
    parts: int = 0
    rows: int = 0  # in the open part

    def write(self, table: pa.Table) -> None:
        if self.writer is None or self.rows >= PART_ROWS:
            self.close()
            self.folder.mkdir(parents=True, exist_ok=True)
            path = self.folder / f"part-{self.parts:05d}.parquet"
            self.writer = pq.ParquetWriter(path, self.schema, compression="zstd")
            self.parts, self.rows = self.parts + 1, 0
        if table.num_rows:
            self.writer.write_table(table)
            self.rows += table.num_rows

    def close(self) -> None:
        if self.writer is not None:
            self.writer.close()
            self.writer = None


class Catalogue:
    """The items read so far: ids, and the row of each in the source."""

    def __init__(self, cleaner: ItemCleaner) -> None:
        self.cleaner = cleaner
        self.ids: list[str] = []
        self.rows: list[int] = []
        self.total = 0  # rows of the source, refused ones too

    def read(self, source: Source, out: Path, quarantine: Quarantine, counts: Counts) -> None:
        parts = Parts(out, ITEMS)
        file, base = "", 0
        for chunk in source.items():
            places = [*chunk.rows[:1].tolist(), *(bad.row for bad in chunk.bad)]
            # Two files may have one name (a/items.csv, b/items.csv): rows that begin anew tell.
            if chunk.file != file or base + min(places) < self.total:
                file, base = chunk.file, self.total
            note_unused("items", chunk, counts)
            table, reasons = self.cleaner.clean(chunk)
            quarantine.add("items", chunk, reasons)
            parts.write(table)
            self.ids += table["item_id"].to_pylist()
            self.rows += (base + chunk.rows[reasons == ""]).tolist()
            ends = [int(chunk.rows[-1])] if len(chunk.rows) else []
            self.total = base + 1 + max(ends + [bad.row for bad in chunk.bad])
            counts.read["items"] += len(reasons) + len(chunk.bad)
            counts.kept["items"] += table.num_rows
        parts.close()

    def of_ids(self, ids: list[str], out: Path, counts: Counts) -> None:
        parts = Parts(out, ITEMS)
        table = pa.table({"item_id": pa.array(ids, pa.string())})
        for field in list(ITEMS)[1:]:
            table = table.append_column(field, pa.nulls(len(ids), field.type))
        parts.write(table.cast(ITEMS))
        parts.close()
        self.ids, self.rows, self.total = ids, list(range(len(ids))), len(ids)
        counts.read["items"] = counts.kept["items"] = len(ids)


def note_unused(table: str, chunk: Chunk, counts: Counts) -> None:
    new = counts.unused(table, chunk.unused)
    if new:
        _log.info("%s: columns without use: %s", chunk.file, ", ".join(new))
