"""The life of an item: encoded, quarantined or active, retired, purged; kept beside the item.

A quarantined item has the code of its nearest neighbour in content until its own becomes active,
after a day at the latest. A retired item keeps row and code; nothing is shown of it. A purged one
has no user left whose history holds it, so that its code may be given again.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from tesserec.data.compute import pc

ACTIVE, QUARANTINED, RETIRED, PURGED = "active", "quarantined", "retired", "purged"
FORCED_S = 24 * 3600  # in quarantine for so long: active with the best code there is
STATUS, SINCE, ENCODED_AT, PENDING = "status", "status_since", "encoded_at", "pending_code"
LIFE = pa.schema(
    [
        pa.field(STATUS, pa.string()),  # null: active since the run that made the release
        pa.field(SINCE, pa.int64()),  # seconds
        pa.field(ENCODED_AT, pa.int64()),  # seconds; null: by the run
        pa.field(PENDING, pa.list_(pa.int32())),  # a quarantined item's own code
    ]
)


def with_life(items: pa.Table) -> pa.Table:
    """The items with the columns of `LIFE`, whatever release they are of."""
    for field in LIFE:
        if field.name not in items.column_names:
            items = items.append_column(field, pa.nulls(items.num_rows, field.type))
    return items


def in_status(items: pa.Table, status: str) -> np.ndarray:
    """bool [N]"""
    column = pc.fill_null(items[STATUS], ACTIVE)
    return np.asarray(pc.equal(column, status).to_numpy(), bool)


def waiting(items: pa.Table) -> np.ndarray:
    """bool [N]: has a neighbour's code and its own is pending; also if it is retired meanwhile."""
    return np.asarray(items[PENDING].is_valid().to_numpy(), bool)


def leaving(items: pa.Table, seen: np.ndarray, whole: bool) -> np.ndarray:
    """bool [N]: shown until now, and not `seen` in a listing that is `whole`."""
    if not whole:
        return np.zeros(items.num_rows, bool)
    return ~(seen | in_status(items, RETIRED) | in_status(items, PURGED))


def overdue(items: pa.Table, now: int) -> np.ndarray:
    """int64 rows of quarantined items whose day is over."""
    since = pc.fill_null(items[SINCE], now).to_numpy()
    return np.flatnonzero(in_status(items, QUARANTINED) & (since + FORCED_S <= now))
