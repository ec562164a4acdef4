"""Rows of items that `maintain` writes anew: counts of events, quarantine, and items let go."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa

from tesserec.data.compute import pc
from tesserec.data.splits import Sequences
from tesserec.retokenization import life
from tesserec.retokenization.ledger import Entry
from tesserec.retokenization.stock import Stock
from tesserec.tables import ROW


def purged(stock: Stock, sequences: Sequences, history: int) -> list[Entry]:
    """Retired items that no user's last `history` events hold any more: their codes are free."""
    held = {item for items in sequences.item_ids for item in items[-history:]}
    rows = np.flatnonzero(life.in_status(stock.items, life.RETIRED)).tolist()
    return [
        Entry(item_id=stock.item_ids[row], row=row, event="purged", reason="in no user's history")
        for row in rows
        if stock.item_ids[row] not in held
    ]


def upkept(
    items: pa.Table,
    counts: Mapping[str, np.ndarray],
    *,
    activated: Sequence[int],
    pending: Mapping[int, np.ndarray],
    gone: Sequence[int],
    now: int,
) -> pa.Table | None:
    """The patch of all rows that change; None if none does.

    Args:
        counts: column -> int64 [N], events of each item by now.
        activated: rows that left quarantine. pending: rows that stay, and the code that waits.
        gone: rows that are purged.
    """
    differs = np.zeros(items.num_rows, bool)
    differs[[*activated, *pending, *gone]] = True
    for name, values in counts.items():
        if name not in items.column_names:
            continue
        differs |= pc.fill_null(items[name], 0).to_numpy() != values
        place = items.column_names.index(name)
        items = items.set_column(place, name, pa.array(values, items.schema.field(name).type))
    rows = np.flatnonzero(differs)
    if not len(rows):
        return None
    part = items.take(pa.array(rows))
    place_of = {row: place for place, row in enumerate(rows.tolist())}
    columns = {name: part[name].to_pylist() for name in life.LIFE.names}
    for row in activated:
        _live(columns, place_of[row], life.ACTIVE, now)
        columns[life.PENDING][place_of[row]] = None
    for row in gone:
        _live(columns, place_of[row], life.PURGED, now)
    for row, code in pending.items():
        columns[life.PENDING][place_of[row]] = code.tolist()
    for field in life.LIFE:
        place = part.column_names.index(field.name)
        part = part.set_column(place, field.name, pa.array(columns[field.name], field.type))
    return part.append_column(ROW, pa.array(rows)).replace_schema_metadata(None)


def _live(columns: Mapping[str, list[object]], place: int, status: str, now: int) -> None:
    columns[life.STATUS][place], columns[life.SINCE][place] = status, now
