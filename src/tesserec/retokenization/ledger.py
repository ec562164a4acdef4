"""The ledger: every change of a code table since its base, in order; it replays to that table."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tesserec.errors import ArtifactError

LEDGER = pa.schema(
    [
        pa.field("item_id", pa.string(), nullable=False),
        pa.field("row", pa.int64(), nullable=False),
        pa.field("event", pa.string(), nullable=False),
        pa.field("old_code", pa.list_(pa.int32())),  # null: the item had none
        pa.field("new_code", pa.list_(pa.int32())),  # null: the code stayed
        pa.field("reason", pa.string(), nullable=False),
        pa.field("at", pa.int64(), nullable=False),  # seconds
        pa.field("cadence", pa.string(), nullable=False),
    ]
)
EVENTS = (
    "encoded", "quarantined", "activated", "edited", "moved", "retired", "relisted", "purged"
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One change of one item."""

    item_id: str
    row: int
    event: str
    reason: str
    old: np.ndarray | None = None  # [m]
    new: np.ndarray | None = None


def ledger_table(entries: Iterable[Entry], *, at: int, cadence: str) -> pa.Table:
    """The entries of one run as they are written."""
    rows = [
        {
            "item_id": e.item_id,
            "row": e.row,
            "event": e.event,
            "old_code": None if e.old is None else e.old.tolist(),
            "new_code": None if e.new is None else e.new.tolist(),
            "reason": e.reason,
            "at": at,
            "cadence": cadence,
        }
        for e in entries
    ]
    return pa.Table.from_pylist(rows, schema=LEDGER)


def read_ledger(paths: Sequence[Path]) -> pa.Table:
    """The ledger of a release from its parts, oldest first."""
    return pa.concat_tables([LEDGER.empty_table(), *map(pq.read_table, paths)])


def replay(base: np.ndarray, ledger: pa.Table) -> np.ndarray:
    """The code table [N, m] after all changes of the ledger to a base table.

    Raises:
        ArtifactError: a change of a row that is not there, or from another code than the row has.
    """
    changed = ledger.filter(ledger["new_code"].is_valid())
    rows = changed["row"].to_numpy()
    codes = _matrix(changed["new_code"], base)
    old = changed["old_code"].to_pylist()
    size = max(len(base), int(rows.max(initial=-1)) + 1)
    table = np.zeros((size, base.shape[1]), dtype=base.dtype)
    table[: len(base)] = base
    end = len(base)
    for place, row in enumerate(rows.tolist()):
        before = old[place]
        if row > end or (before is None) != (row == end):
            raise ArtifactError(
                f"ledger entry {place} ({changed['item_id'][place].as_py()!r}) is of row {row}, "
                f"and the table has {end}; the ledger is not of this release"
            )
        if before is not None and table[row].tolist() != before:
            raise ArtifactError(
                f"ledger entry {place} moves item {changed['item_id'][place].as_py()!r} from "
                f"{before}, and it has {table[row].tolist()}; the ledger is not of this release"
            )
        table[row] = codes[place]
        end = max(end, row + 1)
    return table


def _matrix(column: pa.ChunkedArray, base: np.ndarray) -> np.ndarray:
    flat = column.combine_chunks().flatten().to_numpy()
    return flat.reshape(len(column), base.shape[1]).astype(base.dtype)
