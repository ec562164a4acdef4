"""Whatever happens to a shop's items, the codes of active ones stay; the ledger tells it all."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tesserec.config import change_config
from tesserec.release import promote, promoted, release_folder, verify
from tesserec.release.manifest import parts_of
from tesserec.retokenization import life
from tesserec.retokenization.ledger import read_ledger, replay
from tesserec.retokenization.stock import Stock, open_stock
from tesserec.steps import extend, survey
from tesserec.tables import grow_codes
from tests.fakes.stock import items_table, row, source_rows, stock_release, write_source

NOTHING = {"title": None, "categories": None, "price": None}
ODD = NOTHING | {"categories": ["Shop > C4"], "price": 1.0}  # there is no such item
NUMBER = st.integers(0, 200)
STEP = st.one_of(
    st.tuples(st.just("insert"), NUMBER),
    st.tuples(st.just("insert nothing"), NUMBER),
    st.tuples(st.just("insert odd"), NUMBER),
    st.tuples(st.just("delete"), NUMBER),
    st.tuples(st.just("replace"), NUMBER),
    st.tuples(st.just("edit"), NUMBER),
    st.tuples(st.just("empty"), NUMBER),
    st.tuples(st.just("relist"), NUMBER),
    st.tuples(st.just("hide"), NUMBER),
    st.tuples(st.just("day"), NUMBER),
)
ROUNDS = st.lists(st.lists(STEP, min_size=1, max_size=8), min_size=1, max_size=8)


@dataclass
class Shop:
    """A source that changes, the clock, and the release that follows it."""

    workdir: Path
    now: int = 1_800_000_000
    listed: dict[str, dict[str, Any]] = field(default_factory=dict)
    gone: dict[str, dict[str, Any]] = field(default_factory=dict)
    made: int = 1000

    def __post_init__(self) -> None:
        stock_release(self.workdir, self.workdir / "data")
        self.listed = {r["item_id"]: r for r in source_rows()}

    def insert(self, number: int, **values: Any) -> str:
        self.made += 1
        name = f"N{self.made}"
        self.listed[name] = row(number) | {"item_id": name, "listed_at": None} | values
        return name

    def delete(self, name: str) -> None:
        self.gone[name] = self.listed.pop(name)

    def relist(self, name: str) -> None:
        self.listed[name] = self.gone.pop(name)

    def step(self, what: str, number: int) -> None:
        names, gone = list(self.listed), list(self.gone)
        name = names[number % len(names)]
        if what == "insert":
            self.insert(number)
        elif what == "insert nothing":
            self.insert(number, **NOTHING)
        elif what == "insert odd":
            self.insert(number, **ODD)
        elif what == "delete" and len(names) > 40:
            self.delete(name)
        elif what == "replace" and len(names) > 40:
            old = {key: self.listed[name][key] for key in NOTHING}
            for other in names:
                if all(self.listed[other][key] == old[key] for key in old):
                    self.delete(other)
            self.insert(number, **old)
        elif what == "edit":
            self.listed[name] = self.listed[name] | {"title": row(number + 7)["title"]}
        elif what == "empty":
            self.listed[name] = self.listed[name] | NOTHING
        elif what == "relist" and gone:
            self.relist(gone[number % len(gone)])
        elif what == "hide":
            self.listed[name] = self.listed[name] | {"available": number % 2 == 0}
        elif what == "day":
            self.now += life.FORCED_S

    def encode(self) -> dict[str, int]:
        """One run of `encode` without the rehearsal; what it counted."""
        write_source(self.workdir / "data", list(self.listed.values()))
        config = change_config(open_stock(self.workdir).config, [])
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(survey, "time", SimpleNamespace(time=lambda: self.now))
            found = survey.run(self.workdir, config)
        made = extend.run(self.workdir, config, found).read_json("change.json")
        if made["release_id"]:
            promote(self.workdir, made["release_id"])
        return made["counts"]

    def status(self, name: str) -> str:
        items = open_stock(self.workdir).items
        at = items["item_id"].to_pylist().index(name)
        return items[life.STATUS][at].as_py() or life.ACTIVE

    def code(self, name: str) -> list[int]:
        stock = open_stock(self.workdir)
        return stock.codes[stock.item_ids.index(name)].tolist()


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    return Shop(tmp_path)


def status_of(stock: Stock) -> list[str]:
    return [status or life.ACTIVE for status in stock.items[life.STATUS].to_pylist()]


def check_step(shop: Shop, before: Stock, after: Stock) -> None:
    """What holds after any run."""
    was, status = status_of(before), status_of(after)
    known = len(before.codes)
    assert after.item_ids[:known] == before.item_ids
    waited = life.waiting(before.items)
    changed = (after.codes[:known] != before.codes).any(axis=1)
    assert not (changed & ~waited).any(), "the code of an active item changed"

    listed = np.array([name in shop.listed for name in after.item_ids])
    retired = np.array([s == life.RETIRED for s in status])
    assert (retired == ~listed).all()
    shown = {after.codes[r].tobytes() for r in range(known) if listed[r]}
    only_retired = {after.codes[r].tobytes() for r in np.flatnonzero(retired)} - shown
    fresh = [r for r in range(known, len(status)) if status[r] == life.ACTIVE]
    fresh += np.flatnonzero(changed).tolist()
    assert not only_retired & {after.codes[r].tobytes() for r in fresh}, "a code was given again"

    active = {after.codes[r].tobytes() for r in range(known) if listed[r] and was[r] == life.ACTIVE}
    for at in range(known, len(status)):
        if status[at] == life.QUARANTINED:
            assert after.codes[at].tobytes() in active, "no code of an active item"
    since = after.items[life.SINCE].to_pylist()
    for at in np.flatnonzero(life.in_status(after.items, life.QUARANTINED)):
        assert shop.now < since[at] + life.FORCED_S, "longer in quarantine than a day"


def check_release(workdir: Path) -> None:
    release = promoted(workdir)
    assert release is not None
    folder = release_folder(workdir, release)
    assert verify(folder) == []
    stock = open_stock(workdir)
    parts = parts_of(stock.manifest["parts"]["codes"])
    assert parts, release
    base = grow_codes(stock.paths("codes")[:1])
    assert (replay(base, read_ledger(stock.paths("ledger"))) == stock.codes).all()


@settings(max_examples=12)
@given(ROUNDS)
def test_any_sequence(tmp_path_factory: pytest.TempPathFactory, rounds: list[Any]) -> None:
    shop = Shop(tmp_path_factory.mktemp("shop"))
    for steps in rounds:
        for what, number in steps:
            shop.step(what, number)
        before = open_stock(shop.workdir)
        shop.encode()
        check_step(shop, before, open_stock(shop.workdir))
        check_release(shop.workdir)


def test_two_ways_into_quarantine_and_out_of_it(shop: Shop) -> None:
    empty = shop.insert(1, **NOTHING)
    odd = shop.insert(2, **ODD)
    plain = shop.insert(3)
    stock = open_stock(shop.workdir)
    assert stock.reference is not None
    counts = shop.encode()
    assert [shop.status(name) for name in (empty, odd, plain)] == [
        life.QUARANTINED, life.QUARANTINED, life.ACTIVE
    ]  # fmt: skip
    assert counts["quarantined"] == 2
    ledger = read_ledger(open_stock(shop.workdir).paths("ledger")).to_pylist()
    assert [(e["item_id"], e["event"], e["reason"]) for e in ledger] == [
        (empty, "quarantined", "no content"),
        (odd, "quarantined", "novel content"),
        (plain, "encoded", "new item"),
    ]
    shop.now += life.FORCED_S - 1
    shop.insert(4)
    assert shop.encode()["activated"] == 0
    shop.now += 1
    assert shop.encode()["activated"] == 2, "a day is over, though the source didn't change"
    assert shop.status(odd) == life.ACTIVE
    tokenizer, encoder = stock.tokenizer, stock.encoder
    own = tokenizer.encode(encoder.encode(items_table([shop.listed[odd]])))[0]
    assert shop.code(odd) == own.tolist()
    check_release(shop.workdir)


def test_content_that_comes_later_ends_the_quarantine(shop: Shop) -> None:
    name = shop.insert(1, **NOTHING)
    shop.encode()
    assert shop.status(name) == life.QUARANTINED
    shop.listed[name] |= {key: row(1)[key] for key in NOTHING}
    assert shop.encode()["activated"] == 1
    assert shop.status(name) == life.ACTIVE and shop.code(name) == shop.code("I001")


def test_it_goes_in_quarantine_and_comes_back_to_it(shop: Shop) -> None:
    name = shop.insert(1, **NOTHING)
    shop.encode()
    shop.delete(name)
    shop.encode()
    assert shop.status(name) == life.RETIRED
    shop.now += 10 * life.FORCED_S
    shop.relist(name)
    shop.encode()
    assert shop.status(name) == life.QUARANTINED, "a neighbour's code would stay for ever"
    shop.now += life.FORCED_S
    shop.encode()
    assert shop.status(name) == life.ACTIVE


def test_a_newcomer_of_the_same_run_does_not_inherit(shop: Shop) -> None:
    old, stock = shop.code("I005"), open_stock(shop.workdir)
    for at in np.flatnonzero((stock.codes == old).all(axis=1)):
        shop.delete(stock.item_ids[at])
    name = shop.insert(5)
    assert shop.encode()["kept_apart"] == 1
    assert shop.code(name) != old
    shop.relist("I005")
    shop.encode()
    assert shop.code("I005") == old
    again = shop.insert(5)
    shop.encode()
    assert shop.code(again) == old, "shown again, the code may be shared"


def test_the_twentieth_delta_is_compacted(shop: Shop) -> None:
    releases = []
    for number in range(19):
        shop.insert(number)
        if number == 4:
            shop.delete("I007")
        if number == 8:
            shop.relist("I007")
        shop.encode()
        releases.append(promoted(shop.workdir))
        check_release(shop.workdir)
    before = open_stock(shop.workdir)
    codes, items = before.codes.copy(), before.items
    name = shop.insert(19)
    shop.encode()
    check_release(shop.workdir)
    after = open_stock(shop.workdir)
    releases.append(after.release_id)
    assert after.manifest["delta"] == 20 and len(set(releases)) == 20
    (only,) = parts_of(after.manifest["parts"]["codes"])
    assert only.path == "codes/base-0020.safetensors"
    assert after.manifest["parts"]["ledger"] == []
    assert (after.codes[:-1] == codes).all() and after.item_ids[-1] == name
    assert after.items.slice(0, len(codes)).to_pylist() == items.to_pylist()
    same_answers(shop.workdir, releases[-2], releases[-1])
    shop.insert(30)
    shop.encode()
    check_release(shop.workdir)
    assert open_stock(shop.workdir).manifest["delta"] == 21


def same_answers(workdir: Path, one: str | None, other: str | None) -> None:
    from tesserec.decoders.constraints import Constraints, pack_bits
    from tesserec.recommender import Recommender

    found = []
    for release in (one, other):
        assert release is not None
        recommender = Recommender.load(release_folder(workdir, release))
        allowed = np.zeros(len(recommender.item_ids), bool)
        allowed[:79] = True
        rules = Constraints(allowed=pack_bits(allowed))
        found.append(recommender.recommend([["I001", "I030"], ["I011"]], 20, rules))
    assert found[0][0] == found[1][0]
    assert all(np.array_equal(a, b) for a, b in zip(found[0][1], found[1][1], strict=True))
