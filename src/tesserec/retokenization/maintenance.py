"""Cadence `maintain`: codes move within a budget; the codebook follows what is listed now.

Over-full codes are split and dead ones revived; then a few passes warm the centres, and an old item
moves only if its code no longer fits (`splits.py`, `hysteresis.py`). Each has half of the budget.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tesserec.config import RetokenizationConfig
from tesserec.retokenization import life
from tesserec.retokenization.budget import Budget
from tesserec.retokenization.hysteresis import refresh
from tesserec.retokenization.ledger import Entry
from tesserec.retokenization.novelty import accepted
from tesserec.retokenization.reference import Reference, make_reference
from tesserec.retokenization.splits import repair
from tesserec.retokenization.stock import Stock
from tesserec.retokenization.tuples import Taken

CADENCE = "maintain"


@dataclass(frozen=True, kw_only=True)
class Maintained:
    """A tokenizer and the table that goes with it; rows are those of the stock."""

    tokenizer: Any
    reference: Reference | None
    codes: np.ndarray  # [N, m]
    entries: list[Entry]  # of the ledger
    activated: list[int]  # rows that left quarantine
    pending: dict[int, np.ndarray]  # rows that stay in it, and the code that waits for them
    counts: dict[str, int]


def maintain(
    stock: Stock,
    vectors: np.ndarray,
    seen: np.ndarray | None,
    shown: np.ndarray,
    settings: RetokenizationConfig,
) -> Maintained:
    """Move what is worth moving.

    Args:
        vectors: float32 [N, D], of all items.
        seen: the same by the reference encoder; None: the release has none.
        shown: impressions float64 [N].
    """
    old = stock.codes
    retired = life.in_status(stock.items, life.RETIRED)
    waiting = life.in_status(stock.items, life.QUARANTINED)
    shows = life.in_status(stock.items, life.ACTIVE)
    active = np.flatnonzero(shows)
    half = Budget(items=settings.budget.items / 2, impressions=settings.budget.impressions / 2)
    split = repair(stock.tokenizer, vectors[active], old[active], shown[active], half, old[retired])
    warm = split.tokenizer.warm(vectors[active], settings.passes)
    moved = refresh(warm, vectors[active], split.codes, settings.slack, shown[active], half)
    codes = old.copy()
    codes[active] = moved.codes
    taken = Taken(old, retired, shows | waiting, warm)
    for row in np.flatnonzero((codes != old).any(axis=1)).tolist():
        if (taken.free(vectors[row], codes[row]) != codes[row]).any():
            codes[row] = old[row]  # nobody inherits a retired item's code
    reference = None if seen is None else _reference(stock, seen, active, settings.passes)
    entries = _moves(stock, codes, active, split.splits)
    activated, pending, more = _quarantine(
        stock, warm, reference, vectors, seen, codes, waiting, taken
    )
    return Maintained(
        tokenizer=warm,
        reference=reference,
        codes=codes,
        entries=[*entries, *more],
        activated=activated,
        pending=pending,
        counts={
            "moved": len(entries),
            "wished": moved.wished,
            "made": moved.made,
            "splits": sum(s.why != "dead" for s in split.splits),
            "revived": sum(s.why == "dead" for s in split.splits),
            "activated": len(activated),
        },
    )


def _moves(
    stock: Stock, codes: np.ndarray, active: np.ndarray, splits: Sequence[Any]
) -> list[Entry]:
    old = stock.codes
    why: dict[int, str] = {}
    for split in splits:
        told = f"code {split.code} of digit {split.digit} was split ({split.why})"
        why.update(dict.fromkeys(active[split.rows].tolist(), told))
    changed = np.flatnonzero((codes != old).any(axis=1))
    return [
        Entry(
            item_id=stock.item_ids[row],
            row=row,
            event="moved",
            reason=why.get(row, "its code no longer fitted"),
            old=old[row],
            new=codes[row],
        )
        for row in changed.tolist()
    ]


def _quarantine(
    stock: Stock,
    tokenizer: Any,
    reference: Reference | None,
    vectors: np.ndarray,
    seen: np.ndarray | None,
    codes: np.ndarray,
    waiting: np.ndarray,
    taken: Taken,
) -> tuple[list[int], dict[int, np.ndarray], list[Entry]]:
    """What the new centres know is active with its own code; the rest goes on waiting."""
    rows = np.flatnonzero(waiting)
    if not len(rows):
        return [], {}, []
    own = tokenizer.encode(vectors[rows]).astype(codes.dtype)
    fine = np.ones(len(rows), bool)
    if reference is not None and seen is not None:
        fine = accepted(reference.errors_of(seen[rows])[1], reference.threshold)
    empty = np.asarray(stock.items["content"].is_null().to_numpy(), bool)[rows]
    activated, pending, entries = [], {}, []
    for row, code, good in zip(rows.tolist(), own, fine & ~empty, strict=True):
        if not good:
            pending[row] = code
            continue
        activated.append(row)
        code = taken.free(vectors[row], code)
        entry = Entry(
            item_id=stock.item_ids[row],
            row=row,
            event="activated",
            reason="the codebook knows its content now",
            old=stock.codes[row],
            new=code,
        )
        entries.append(entry)
        codes[row] = code
    return activated, pending, entries


def _reference(stock: Stock, seen: np.ndarray, active: np.ndarray, passes: int) -> Reference | None:
    """The reference tokenizer follows as far, without the items that it holds out."""
    before = stock.reference
    if before is None:
        return None
    row_of = {item: row for row, item in enumerate(stock.item_ids)}
    held = np.array([row_of[item] for item in before.item_ids], np.int64)
    rest = np.setdiff1d(active, held)
    return make_reference(before.tokenizer.warm(seen[rest], passes), before.item_ids, seen[held])
