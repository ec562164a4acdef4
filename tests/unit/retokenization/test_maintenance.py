"""Codes move within their budget; retired items, quarantine and the ledger stay in order."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from tesserec.config.retokenization import BudgetConfig, RetokenizationConfig
from tesserec.retokenization import life
from tesserec.retokenization.churn import churn
from tesserec.retokenization.ledger import ledger_table, replay
from tesserec.retokenization.maintenance import Maintained, maintain
from tesserec.retokenization.reference import make_reference
from tesserec.retokenization.stock import Stock
from tesserec.tokenizers.opq import OPQ
from tesserec.tokenizers.rqkmeans import RQKMeans

N, DIM, DIGITS, SIZE = 300, 8, 4, 8
HELD = np.arange(3, N, 10)
GONE, WAITING = np.arange(0, 60), np.arange(290, 300)  # retired or purged; in quarantine
TOKENIZERS: dict[str, Any] = {"opq": OPQ, "rqkmeans": RQKMeans}


def vectors_of(seed: int = 1, moved: float = 0.0) -> np.ndarray:
    """float32 [N, D]; with `moved`, a third of the items wandered so far."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(N, DIM))
    x[::3] += moved * rng.normal(size=(len(x[::3]), DIM))
    return x.astype(np.float32)


def stock_of(kind: str, *, gone: str = life.RETIRED, empty: int = -1) -> Stock:
    """A release in memory, fitted on the items as they were; row `empty` has no content."""
    x = vectors_of()
    active = np.arange(len(GONE), WAITING[0])
    tokenizer, reference = (TOKENIZERS[kind](DIGITS, SIZE, 3) for _ in range(2))
    tokenizer.fit(x[active], np.random.default_rng(1))
    reference.fit(x[np.setdiff1d(active, HELD)], np.random.default_rng(2))
    ids = [f"I{row:03d}" for row in range(N)]
    middle: list[str | None] = [None] * len(active)
    status = [*[gone] * len(GONE), *middle, *[life.QUARANTINED] * len(WAITING)]
    table = tokenizer.encode(x)
    pending = [table[row].tolist() if row in WAITING else None for row in range(N)]
    table[WAITING] = table[100]  # a neighbour's
    content = [None if row == empty else f"h{row}" for row in range(N)]
    items = pa.table({"item_id": ids, "content": content, life.STATUS: status})
    items = items.append_column(life.PENDING, pa.array(pending, pa.list_(pa.int32())))
    stock = Stock(Path("release"), {"release_id": "r1"})
    held = [ids[row] for row in HELD.tolist()]
    stock.__dict__.update(
        items=life.with_life(items),
        codes=table,
        item_ids=ids,
        tokenizer=tokenizer,
        reference=make_reference(reference, held, x[HELD]),
    )
    return stock


def settings(items: float = 0.05, impressions: float = 0.02, **more: Any) -> RetokenizationConfig:
    budget = BudgetConfig(items=items, impressions=impressions)
    return RetokenizationConfig(budget=budget, slack=0.0, **more)


def maintained(stock: Stock, x: np.ndarray, shown: np.ndarray, **more: Any) -> Maintained:
    return maintain(stock, x, x, shown, settings(**more))


def active_of(stock: Stock) -> np.ndarray:
    return life.in_status(stock.items, life.ACTIVE)


@pytest.fixture(params=TOKENIZERS)
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


SHOWN = np.random.default_rng(7).zipf(1.5, N).clip(max=1000).astype(np.float64)


@pytest.mark.parametrize("items", [0.0, 0.01, 0.05, 1.0])
@pytest.mark.parametrize("impressions", [0.0, 0.02, 1.0])
def test_the_budget_holds_in_both_ways(kind: str, items: float, impressions: float) -> None:
    """Of parallel codes by digits, of hierarchical ones by tuples, of the items that are shown."""
    stock = stock_of(kind)
    found = maintained(stock, vectors_of(moved=2), SHOWN, items=items, impressions=impressions)
    active = active_of(stock)
    moved = churn(stock.codes[active], found.codes[active], SHOWN[active])
    whole = stock.tokenizer.hierarchical
    assert (moved.items if whole else moved.digits) <= items + 1e-9
    assert (moved.impressions if whole else moved.digit_impressions) <= impressions + 1e-9
    if items == impressions == 1:  # it would all move
        assert moved.items > 0.4
    if items and impressions:
        assert found.counts["moved"] > 0
        assert found.counts["moved"] == int(
            (stock.codes[active] != found.codes[active]).any(axis=1).sum()
        )


def test_no_change_of_content_and_slack_move_hardly_anything(kind: str) -> None:
    stock = stock_of(kind)
    more = RetokenizationConfig(budget=BudgetConfig(items=1, impressions=1), slack=0.25, passes=1)
    found = maintain(stock, vectors_of(), vectors_of(), np.ones(N), more)
    active = active_of(stock)
    assert churn(stock.codes[active], found.codes[active]).items < 0.25


def test_each_changed_row_has_its_entry_and_the_ledger_replays(kind: str) -> None:
    stock = stock_of(kind)
    found = maintained(stock, vectors_of(moved=2), np.ones(N), items=0.3, impressions=0.3)
    changed = np.flatnonzero((stock.codes != found.codes).any(axis=1)).tolist()
    moved = [e.row for e in found.entries if e.event == "moved"]
    activated = [e.row for e in found.entries if e.event == "activated"]
    assert len(set(moved + activated)) == len(found.entries)
    assert set(changed) == set(moved) | {r for r in activated if r in changed} and moved
    for entry in found.entries:
        assert entry.item_id == stock.item_ids[entry.row] and entry.reason
    ledger = ledger_table(found.entries, at=5, cadence="maintain")
    np.testing.assert_array_equal(replay(stock.codes, ledger), found.codes)


@pytest.mark.parametrize("gone", [life.RETIRED, life.PURGED])
def test_what_is_gone_stays_as_it_was(kind: str, gone: str) -> None:
    stock = stock_of(kind, gone=gone)
    found = maintained(stock, vectors_of(moved=2), np.ones(N), items=1, impressions=1)
    np.testing.assert_array_equal(found.codes[GONE], stock.codes[GONE])
    assert not {e.row for e in found.entries} & set(GONE.tolist())


def test_nobody_inherits_a_retired_items_code(kind: str) -> None:
    """Some would: where no item is retired, but purged, its code is free."""
    inherited = {}
    for status in (life.RETIRED, life.PURGED):
        stock = stock_of(kind, gone=status)
        active = np.flatnonzero(active_of(stock))
        found = maintained(stock, vectors_of(moved=2), np.ones(N), items=1, impressions=1)
        shown = {tuple(code) for code in stock.codes[active].tolist()}
        old = {tuple(code) for code in stock.codes[GONE].tolist()} - shown
        rows = active[(found.codes[active] != stock.codes[active]).any(axis=1)]
        inherited[status] = {tuple(code) for code in found.codes[rows].tolist()} & old
    assert inherited[life.PURGED] and not inherited[life.RETIRED]


def test_quarantine_ends_for_what_the_centres_know_now(kind: str) -> None:
    """Items far off all others go on waiting, with a pending code of the new tokenizer."""
    x = vectors_of()
    x[WAITING[5:]] += 50
    stock = stock_of(kind, empty=int(WAITING[0]))
    found = maintained(stock, x, np.ones(N))
    assert set(found.pending) == {int(WAITING[0]), *WAITING[5:].tolist()}
    assert found.activated == WAITING[1:5].tolist() and found.counts["activated"] == 4
    for row, code in found.pending.items():
        np.testing.assert_array_equal(found.codes[row], stock.codes[row])  # the neighbour's
        np.testing.assert_array_equal(code, found.tokenizer.encode(x[row : row + 1])[0])
    own = found.tokenizer.encode(x[WAITING[1:5]])
    assert (found.codes[WAITING[1:5]] == own).mean() > 0.9  # unless a retired item has it


def test_without_a_reference_only_items_without_content_wait(kind: str) -> None:
    stock = stock_of(kind, empty=int(WAITING[0]))
    stock.__dict__["reference"] = None
    found = maintain(stock, vectors_of(), None, np.ones(N), settings())
    assert found.reference is None and list(found.pending) == [int(WAITING[0])]


def test_the_reference_follows_without_what_it_holds_out(kind: str) -> None:
    stock = stock_of(kind)
    x = vectors_of(moved=2)
    found = maintained(stock, x, np.ones(N))
    assert found.reference is not None and stock.reference is not None
    assert found.reference.item_ids == stock.reference.item_ids
    other = x.copy()
    other[HELD] += 3  # what it never saw may change its errors and not its centres
    again = maintained(stock, other, np.ones(N)).reference
    assert again is not None
    np.testing.assert_array_equal(again.tokenizer.centres, found.reference.tokenizer.centres)
    assert (again.errors != found.reference.errors).any()


def test_it_is_the_same_each_time(kind: str) -> None:
    one, two = (maintained(stock_of(kind), vectors_of(moved=2), SHOWN) for _ in range(2))
    np.testing.assert_array_equal(one.codes, two.codes)
    np.testing.assert_array_equal(one.tokenizer.centres, two.tokenizer.centres)
