"""The items of a source beside those that a release knows: new, edited, otherwise changed, seen.

The source is read once as a stream, and what is kept is what differs. `feed` reads a file of new
and edited items alone, so that not even reading costs more than they do.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from tesserec.config import DataConfig
from tesserec.data.clean import DUPLICATE, ItemCleaner
from tesserec.data.compute import pc
from tesserec.data.content import content_hashes
from tesserec.data.quarantine import Quarantine
from tesserec.data.records import Chunk, Counts, Source
from tesserec.data.schemas import ITEMS
from tesserec.errors import DataError, UsageError

HASH, ROW = "content", "row"


@dataclass(frozen=True, kw_only=True)
class Listing:
    """What a source says that a release does not know yet."""

    new: pa.Table  # ITEMS and `content`, in the source's order
    changed: pa.Table  # the same of items that are known, and their `row` in the release
    edited: np.ndarray  # bool, aligned with `changed`: the content is another one
    seen: np.ndarray  # bool, aligned with the release's rows: the source lists the item
    places: np.ndarray  # int64: row in the source of each new and then each changed item
    read: int  # rows of the source
    refused: dict[str, int]  # reason -> rows

    @property
    def to_encode(self) -> np.ndarray:
        """bool [new + changed]: of which the content is new."""
        return np.concatenate([np.ones(self.new.num_rows, bool), self.edited])

    def without(self, unusable: np.ndarray, reason: str) -> Listing:
        """The same without some of its items, bool [new + changed], which are told as refused."""
        if not unusable.any():
            return self
        n, keep = self.new.num_rows, ~unusable
        refused = self.refused | {reason: self.refused.get(reason, 0) + int(unusable.sum())}
        return replace(
            self,
            new=self.new.filter(pa.array(keep[:n])),
            changed=self.changed.filter(pa.array(keep[n:])),
            edited=self.edited[keep[n:]],
            places=self.places[keep],
            refused=refused,
        )


def feed(config: DataConfig, path: Path) -> DataConfig:
    """The configuration that reads new and edited items from one file.

    Raises:
        UsageError: there is no such file.
    """
    if not path.is_file():
        raise UsageError(f"--items {path}: there is no such file")
    columns = {k: v for k, v in config.columns.items() if k == "items"}
    if config.source != "folder":
        columns = {}
    parent = str(path.parent.resolve())
    named = {"source": "folder", "path": parent, "items": path.name, "interactions": path.name}
    return replace(config, **named, columns=columns)


def read_listing(source: Source, config: DataConfig, known: pa.Table, out: Path) -> Listing:
    """Read the source's items and compare them with those of a release.

    Args:
        known: the release's items, in row order: item_id, content, available, listed_at.
        out: refused rows are written to `quarantine.parquet` in this folder.

    Raises:
        UsageError: the source has no items of its own, so there is nothing to encode.
        DataError: there are no rows, or more of them than `data.max_bad_share` are refused.
    """
    if not source.has_items:
        raise UsageError(
            "the data have no file of items, so new items have no content to encode; set data.items"
        )
    counts = Counts()
    cleaner = ItemCleaner(
        time_unit=source.time_unit, separator=config.list_separator, counts=counts
    )
    ids = known["item_id"].combine_chunks()
    compare = _Comparison(known, ids)
    with Quarantine(out / "quarantine.parquet", counts) as quarantine:
        for chunk, base in _numbered(source):
            table, reasons = cleaner.clean(chunk)
            quarantine.add("items", chunk, reasons)
            counts.read["items"] += len(reasons) + len(chunk.bad)
            compare.take(table, base + chunk.rows[reasons == ""])
    _check(counts, quarantine, config.max_bad_share)
    return compare.listing(counts)


class _Comparison:
    """Gathers what differs, chunk by chunk."""

    def __init__(self, known: pa.Table, ids: pa.Array) -> None:
        self._known, self._ids = known, ids
        self._seen = np.zeros(len(ids), bool)
        self._new: list[pa.Table] = []
        self._changed: list[pa.Table] = []
        self._edited: list[np.ndarray] = []
        self._places: list[list[np.ndarray]] = [[], []]

    def take(self, table: pa.Table, places: np.ndarray) -> None:
        table = table.append_column(HASH, content_hashes(table))
        index = pc.index_in(table["item_id"], value_set=self._ids).combine_chunks()
        rows = index.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64)
        old = np.flatnonzero(rows >= 0)
        self._seen[rows[old]] = True
        fresh = np.flatnonzero(rows < 0)
        if len(fresh):
            self._new.append(table.take(pa.array(fresh)))
            self._places[0].append(places[fresh])
        edited = self._differs(table, rows, old, HASH)
        other = edited.copy()
        for name in ("available", "listed_at"):
            other |= self._differs(table, rows, old, name)
        differing = old[other]
        if len(differing):
            part = table.take(pa.array(differing)).append_column(ROW, pa.array(rows[differing]))
            self._changed.append(part)
            self._edited.append(edited[other])
            self._places[1].append(places[differing])

    def _differs(self, table: pa.Table, rows: np.ndarray, old: np.ndarray, name: str) -> np.ndarray:
        """bool, aligned with `old`: the source has another value than the release.

        A listing time that only the release has was taken from the first interaction.
        """
        if name not in self._known.column_names:
            return np.zeros(len(old), bool)
        ours = self._known[name].take(pa.array(rows[old])).combine_chunks()
        theirs = table[name].take(pa.array(old)).combine_chunks().cast(ours.type)
        if name == "available":
            ours, theirs = pc.fill_null(ours, True), pc.fill_null(theirs, True)
        same = pc.fill_null(pc.equal(ours, theirs), False)
        same = pc.or_(same, pc.and_(pc.is_null(ours), pc.is_null(theirs)))
        if name == "listed_at":
            same = pc.or_(same, pc.is_null(theirs))
        return ~same.to_numpy(zero_copy_only=False)

    def listing(self, counts: Counts) -> Listing:
        new = pa.concat_tables(self._new) if self._new else _empty(ITEMS)
        known = _empty(ITEMS).append_column(ROW, pa.array([], pa.int64()))
        changed = pa.concat_tables(self._changed) if self._changed else known
        refused = dict(counts.quarantined["items"])
        return Listing(
            new=new,
            changed=changed,
            edited=np.concatenate([np.zeros(0, bool), *self._edited]),
            seen=self._seen,
            places=np.concatenate([np.zeros(0, np.int64), *self._places[0], *self._places[1]]),
            read=counts.read["items"],
            refused=refused,
        )


def _empty(schema: pa.Schema) -> pa.Table:
    return schema.empty_table().append_column(HASH, pa.array([], pa.int64()))


def _numbered(source: Source) -> Any:
    """Chunks with the number of their file's first row among all rows of the source."""
    file, base, total = "", 0, 0
    for chunk in source.items():
        places = [*chunk.rows[:1].tolist(), *(bad.row for bad in chunk.bad)]
        if chunk.file != file or (places and base + min(places) < total):
            file, base = chunk.file, total
        yield chunk, base
        last: Chunk = chunk
        ends = [int(last.rows[-1])] if len(last.rows) else []
        total = base + 1 + max([*ends, *(bad.row for bad in last.bad)], default=-1)


def _check(counts: Counts, quarantine: Quarantine, most: float) -> None:
    """As ingest: a source of which too much can't be used is refused as a whole."""
    bad = {k: n for k, n in counts.quarantined["items"].items() if k != DUPLICATE}
    if not counts.read["items"]:
        raise DataError(
            "there are no items: the source is empty, and nothing was retired; check data.path and "
            "its files"
        )
    if counts.read["items"] and sum(bad.values()) > most * counts.read["items"]:
        reasons = "; ".join(f"{reason}: {n}" for reason, n in bad.items())
        raise DataError(
            f"{sum(bad.values())} of {counts.read['items']} items are refused (allowed {most:.1%}):"
            f" {reasons}. Examples: {' | '.join(quarantine.examples['items'])}. "
            "Mend the source, or raise data.max_bad_share"
        )
