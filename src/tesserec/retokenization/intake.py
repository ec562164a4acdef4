"""Cadence `encode`: what becomes of each new, edited, returned and vanished item.

No code of an active item changes here. Shapes: n new items, N items of the release, m digits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from tesserec.data.compute import pc
from tesserec.data.listing import HASH, Listing
from tesserec.release.build import COUNT_COLUMNS, PROFILE_COLUMNS
from tesserec.release.delta import Delta
from tesserec.retokenization import life
from tesserec.retokenization.ledger import Entry, ledger_table
from tesserec.retokenization.neighbours import Neighbours
from tesserec.retokenization.stock import Stock
from tesserec.retokenization.tuples import Taken
from tesserec.tables import ROW

NO_CONTENT, NOVEL = "no content", "novel content"
CADENCE = "encode"
COUNTS: tuple[str, ...] = (
    "new_items", "quarantined", "activated", "changed", "edited", "moved_content", "retired",
    "relisted", "kept_apart",
)  # fmt: skip


@dataclass
class Intake:
    """What one run of `encode` decided."""

    delta: Delta
    counts: dict[str, int]  # what happened to how many items
    errors: np.ndarray  # float32: of the new items, as the reference tokenizer sees them
    notes: list[str] = field(default_factory=list)


def take_in(
    stock: Stock,
    listing: Listing,
    vectors: np.ndarray,
    seen: np.ndarray,
    neighbours: Neighbours | None,
    *,
    now: int,
    whole: bool,
) -> Intake:
    """Decide about every item that the listing tells of.

    Args:
        vectors: float32 [n + changed, D], of the listing's new items and then its changed ones;
            NaN for one whose content is what it was.
        seen: the same by the reference encoder.
        neighbours: finds the active items that are nearest in content; None: quarantined items have
            their own code.
        now: seconds; the moment of the run, which may have been killed and goes on.
        whole: the listing is of all items: those that it leaves out are gone.
    """
    run = _Run(stock, listing, vectors, seen, neighbours, now, whole)
    run.new_items()
    run.changed_items()
    run.overdue_items()
    run.life_of_others()
    return run.result()


class _Run:
    def __init__(
        self,
        stock: Stock,
        listing: Listing,
        vectors: np.ndarray,
        seen: np.ndarray,
        neighbours: Neighbours | None,
        now: int,
        whole: bool,
    ) -> None:
        self.stock, self.listing, self.vectors, self.now = stock, listing, vectors, now
        self.neighbours = neighbours
        self.n = listing.new.num_rows
        reference, asked = stock.reference, listing.to_encode
        self.codes = np.zeros((len(vectors), stock.codes.shape[1]), stock.codes.dtype)
        self.errors = np.zeros(len(vectors), np.float32)
        if asked.any():
            self.codes[asked] = stock.tokenizer.encode(vectors[asked])
            if reference is not None:
                self.errors[asked] = reference.errors_of(seen[asked])[1]
        self.threshold = np.inf if reference is None else reference.threshold
        self.notes: list[str] = []
        if reference is None:
            self.notes.append("the release has no held-out reference: novelty was not judged")
        self.waiting = life.waiting(stock.items)
        self.retired = life.in_status(stock.items, life.RETIRED)
        self.purged = life.in_status(stock.items, life.PURGED)
        self.gone = life.leaving(stock.items, listing.seen, whole)
        held = (self.retired & ~listing.seen) | self.gone
        self.taken = Taken(stock.codes, held, ~(held | self.purged), stock.tokenizer)
        self.entries: list[Entry] = []
        self.counts = dict.fromkeys(COUNTS, 0)
        self.code_patch: dict[int, np.ndarray] = {}
        self.item_patch: dict[int, dict[str, Any]] = {}
        self.added: tuple[pa.Table, np.ndarray] | None = None

    # ---- new items ----

    def new_items(self) -> None:
        if not self.n:
            return
        new, first = self.listing.new, len(self.stock.codes)
        ids = new["item_id"].to_pylist()
        reasons = self._reasons(new, self.errors[: self.n])
        codes = self.codes[: self.n].copy()
        own = codes.copy()
        quarantined = np.flatnonzero(reasons != "")
        if self.neighbours is not None:
            codes[quarantined] = self.neighbours.codes(self.vectors[quarantined])
        for at in range(self.n):
            if not reasons[at]:
                codes[at] = self._apart(self.vectors[at], codes[at])
            event = "quarantined" if reasons[at] else "encoded"
            entry = Entry(
                item_id=ids[at],
                row=first + at,
                event=event,
                reason=str(reasons[at]) or "new item",
                new=codes[at],
            )
            self.entries.append(entry)
        pending = [own[i].tolist() if reasons[i] else None for i in range(self.n)]
        status = np.where(reasons != "", life.QUARANTINED, life.ACTIVE).tolist()
        self.added = _rows(new, status, pending, self.now), codes
        self.counts["new_items"] = self.n
        self.counts["quarantined"] = len(quarantined)

    def _reasons(self, items: pa.Table, errors: np.ndarray) -> np.ndarray:
        """Why each item is quarantined; "" for one that isn't."""
        empty = items[HASH].combine_chunks().is_null().to_numpy(zero_copy_only=False)
        reasons = np.where(errors > self.threshold, NOVEL, "").astype(object)
        reasons[np.asarray(empty, bool)] = NO_CONTENT
        return reasons

    def _apart(self, vector: np.ndarray, code: np.ndarray) -> np.ndarray:
        """A code that doesn't inherit a retired item's history."""
        found = self.taken.free(vector, code)
        self.counts["kept_apart"] += int(not np.array_equal(found, code))
        return found

    # ---- items that are known ----

    def changed_items(self) -> None:
        """New facts are taken over; a new content keeps its code while the code still fits it."""
        changed = self.listing.changed
        if not changed.num_rows:
            return
        rows = changed[ROW].to_numpy().tolist()
        facts = changed.select(_known(changed, (*PROFILE_COLUMNS, HASH))).to_pylist()
        self._open(rows)
        reasons = self._reasons(changed, self.errors[self.n :])
        fits = self._fits(rows)
        for at, row in enumerate(rows):
            patch = self._patch(row)
            patch |= {k: v for k, v in facts[at].items() if k != "listed_at" or v is not None}
            self.counts["changed"] += 1
            if not self.listing.edited[at]:
                continue
            self.counts["edited"] += 1
            if self.waiting[row]:
                if not reasons[at]:
                    self._activate(row, self.codes[self.n + at], "its content was edited")
                else:
                    patch[life.PENDING] = self.codes[self.n + at].tolist()
            elif not fits[at]:
                self.counts["moved_content"] += 1
                self._enter(row, "edited", "content moved; its code waits for the next maintain")
            else:
                self._enter(row, "edited", "content changed; its code still fits")

    def _fits(self, rows: Sequence[int]) -> np.ndarray:
        """bool: what the present code stands for is no farther from the new content than that of
        a held-out item from its own."""
        if not len(rows) or not np.isfinite(self.threshold):
            return np.ones(len(rows), bool)
        stands_for = self.stock.tokenizer.decode(self.stock.codes[np.array(rows)])
        far = ((self.vectors[self.n :] - stands_for) ** 2).sum(axis=1)
        return far <= self.threshold

    def overdue_items(self) -> None:
        """A day in quarantine is over: active with the best code that there is."""
        for row in life.overdue(self.stock.items, self.now).tolist():
            if not self.gone[row] and self._patch(row)[life.STATUS] == life.QUARANTINED:
                own = np.array(self._patch(row)[life.PENDING], self.stock.codes.dtype)
                self._activate(row, own, "a day in quarantine is over")

    def _activate(self, row: int, code: np.ndarray, reason: str) -> None:
        old = self.stock.codes[row]
        code = self._apart(self.stock.tokenizer.decode(code[None])[0], code)
        self._enter(row, "activated", reason, old=old, new=code)
        self.code_patch[row] = code
        life_of = {life.STATUS: life.ACTIVE, life.SINCE: self.now, life.PENDING: None}
        self._patch(row).update(life_of)
        self.counts["activated"] += 1

    def life_of_others(self) -> None:
        """Items that are gone retire, and come back with the code that they had.

        One that went while it was in quarantine is in quarantine again.
        """
        back = np.flatnonzero((self.retired | self.purged) & self.listing.seen).tolist()
        gone = np.flatnonzero(self.gone).tolist()
        self._open([*back, *gone])
        for row in back:
            patch = self._patch(row)
            status = life.ACTIVE if patch[life.PENDING] is None else life.QUARANTINED
            patch.update({life.STATUS: status, life.SINCE: self.now})
            self._enter(row, "relisted", "listed again")
        for row in gone:
            update = {life.STATUS: life.RETIRED, life.SINCE: self.now, "available": False}
            self._patch(row).update(update)
            self._enter(row, "retired", "not listed any more")
        self.counts["relisted"], self.counts["retired"] = len(back), len(gone)

    # ---- what comes of it ----

    def _patch(self, row: int) -> dict[str, Any]:
        """The whole row of a known item, to be changed."""
        if row not in self.item_patch:
            self._open([row])
        return self.item_patch[row]

    def _open(self, rows: Sequence[int]) -> None:
        """Read so many rows at once: one by one a tenth of a large catalogue takes minutes."""
        rows = [row for row in rows if row not in self.item_patch]
        if rows:
            found = self.stock.items.take(pa.array(rows, pa.int64())).to_pylist()
            self.item_patch.update(zip(rows, found, strict=True))

    def _enter(
        self, row: int, event: str, reason: str, *, old: Any = None, new: Any = None
    ) -> None:
        item = self.stock.item_ids[row]
        self.entries.append(
            Entry(item_id=item, row=row, event=event, reason=reason, old=old, new=new)
        )

    def result(self) -> Intake:
        rows = sorted(self.code_patch)
        patch = None
        if rows:
            patch = np.array(rows, np.int64), np.stack([self.code_patch[row] for row in rows])
        delta = Delta(
            items=self.added[0] if self.added else None,
            codes=self.added[1] if self.added else None,
            item_patch=_patch_table(self.item_patch, self.stock.items.schema),
            code_patch=patch,
            ledger=ledger_table(self.entries, at=self.now, cadence=CADENCE),
        )
        return Intake(delta, self.counts, self.errors[: self.n], self.notes)


def _rows(items: pa.Table, status: Sequence[str], pending: Sequence[Any], now: int) -> pa.Table:
    """The rows of new items, as the items of a release have them."""
    n = items.num_rows
    table = items.select(_known(items, PROFILE_COLUMNS))
    listed = pc.fill_null(items["listed_at"], now)  # nothing says that it was there before
    table = table.set_column(table.column_names.index("listed_at"), "listed_at", listed)
    table = table.append_column("trained", pa.array(np.zeros(n, bool)))
    table = table.append_column(HASH, items[HASH])
    for name in COUNT_COLUMNS:
        table = table.append_column(name, pa.array(np.zeros(n, np.int64)))
    moment = pa.array(np.full(n, now, np.int64))
    values = (pa.array(status, pa.string()), moment, moment, pa.array(pending, life.LIFE.types[3]))
    for column, values_of in zip(life.LIFE.names, values, strict=True):
        table = table.append_column(column, values_of)
    return table.replace_schema_metadata(None)


def _known(items: pa.Table, names: Sequence[str]) -> list[str]:
    return [name for name in names if name in items.column_names]


def _patch_table(patch: dict[int, dict[str, Any]], schema: pa.Schema) -> pa.Table | None:
    if not patch:
        return None
    rows = sorted(patch)
    table = pa.Table.from_pylist([patch[row] for row in rows], schema=schema)
    table = table.append_column(ROW, pa.array(rows, pa.int64()))
    return table.replace_schema_metadata(None)
