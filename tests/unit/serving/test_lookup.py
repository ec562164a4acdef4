"""Users looked up within a budget: hanging, late and failing stores, and rows remembered."""

from __future__ import annotations

import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator, Sequence

import pytest

from tesserec.config import LookupSettings
from tesserec.serving import stale as stale_module
from tesserec.serving.breaker import FAILURES, PROBE_S, Breaker
from tesserec.serving.lookup import READERS, Found, Lookup
from tesserec.serving.meter import MemoryMeter
from tesserec.serving.quiet import QUIET_S, Quiet
from tesserec.serving.stale import KEPT_S, StaleRows
from tesserec.serving.workers import Workers
from tests.fakes.release import FakeReader, FakeRow, fake_row, item_id

BUDGET_MS = 50.0


class SlowReader(FakeReader):
    """A store that answers when it is let; `hanging` counts the reads that wait."""

    def __init__(self) -> None:
        super().__init__()
        self.open = threading.Event()
        self.open.set()
        self.hanging = 0
        self.told: dict[str, FakeRow] = {}

    def read(self, user_ids: Sequence[str]) -> list[FakeRow]:
        rows = [self.told.get(user, fake_row(user)) for user in user_ids]  # as of the asking
        self.hanging += 1
        self.open.wait(20)
        self.hanging -= 1
        super().read(user_ids)  # may be broken
        return rows


@pytest.fixture
def meter() -> MemoryMeter:
    return MemoryMeter()


@pytest.fixture
def lookup(meter: MemoryMeter) -> Iterator[Lookup]:
    made = Lookup(LookupSettings(budget_ms=BUDGET_MS), meter)
    yield made
    made.close()


def wait_for(what: Callable[[], bool], seconds: float = 5) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def until(lookup: Lookup, reader: FakeReader, outcome: str, seconds: float = 5) -> Found:
    deadline = time.monotonic() + seconds
    while (found := lookup.find(reader, ["U5"])["U5"]).outcome != outcome:
        assert time.monotonic() < deadline, found
        time.sleep(0.01)
    return found


def test_one_read_a_batch_and_one_row_a_user(lookup: Lookup, meter: MemoryMeter) -> None:
    reader = FakeReader()
    found = lookup.find(reader, ["U5", "U7", "U5", "U500"])
    assert reader.reads == 1 and lookup.find(reader, []) == {} and reader.reads == 1
    assert {user: one.outcome for user, one in found.items()} == {
        "U5": "read",
        "U7": "read",
        "U500": "unknown",
    }
    assert found["U7"].row == fake_row("U7") and found["U7"].age_s is None
    assert found["U500"].row is None
    assert meter.values["tesserec_features_total", "read"] == 2
    assert meter.values["tesserec_features_total", "unknown"] == 1


def test_a_hanging_store_costs_the_budget_a_few_times_and_then_nothing(
    lookup: Lookup, meter: MemoryMeter
) -> None:
    reader, threads = SlowReader(), threading.active_count()
    reader.open.clear()
    took = []
    for n in range(60):
        began = time.monotonic()
        found = lookup.find(reader, [f"U{n}"])[f"U{n}"]
        took.append(time.monotonic() - began)
        assert found.row is None and found.outcome in ("late", "skipped")
    assert max(took) < BUDGET_MS / 1000 + 1
    assert sorted(took)[len(took) // 2] < BUDGET_MS / 2000, "the store is left alone"
    assert FAILURES <= meter.values["tesserec_features_total", "late"] <= READERS
    assert reader.hanging <= READERS
    time.sleep(READERS * PROBE_S)  # probes hang too
    for _ in range(3 * READERS):
        lookup.find(reader, ["U5"])
        time.sleep(PROBE_S / 5)
    assert reader.hanging <= READERS and threading.active_count() <= threads + READERS
    reader.open.set()
    began = time.monotonic()
    until(lookup, reader, "read")
    assert time.monotonic() - began < PROBE_S + 1


def test_a_failing_store_recovers_within_a_probe(lookup: Lookup, meter: MemoryMeter) -> None:
    reader = FakeReader(broken=True)
    outcomes = [lookup.find(reader, ["U5"])["U5"].outcome for _ in range(20)]
    assert outcomes[:FAILURES] == ["failed"] * FAILURES and set(outcomes[FAILURES:]) == {"skipped"}
    reader.broken = False
    assert until(lookup, reader, "read", PROBE_S + 1).row == fake_row("U5")
    assert lookup.find(reader, ["U5"])["U5"].outcome == "read", "it is closed again"
    assert meter.values["tesserec_features_total", "failed"] >= FAILURES


def test_a_remembered_row_stands_in(lookup: Lookup, meter: MemoryMeter) -> None:
    reader = FakeReader()
    lookup.find(reader, ["U5"])
    wait_for(lambda: len(lookup._stale) == 1)
    reader.broken = True
    found = lookup.find(reader, ["U5", "U6"])
    row = found["U5"].row
    assert row is not None and found["U5"].outcome == "failed"
    assert (list(row.history), row.seen) == (fake_row("U5").history, fake_row("U5").seen)
    assert found["U5"].age_s is not None and 0 <= found["U5"].age_s < 60
    assert found["U6"] == Found(None, "failed")
    assert meter.values["tesserec_cache_total", "users", "hit"] == 1
    assert meter.values["tesserec_cache_total", "users", "miss"] == 1


def test_a_store_that_lost_its_data_is_stood_in_for(lookup: Lookup) -> None:
    reader = SlowReader()
    lookup.find(reader, ["U5"])
    wait_for(lambda: len(lookup._stale) == 1)
    reader.told["U5"] = FakeRow("U5", known=False)
    found = lookup.find(reader, ["U5"])["U5"]
    assert found.outcome == "unknown" and found.age_s is not None
    reader.told["U5"] = FakeRow("U5", [item_id(1)], {item_id(1)})  # an event came: that is newer
    found = lookup.find(reader, ["U5"])["U5"]
    assert found.outcome == "read" and found.row == reader.told["U5"]


def test_a_row_that_comes_too_late_is_remembered(lookup: Lookup) -> None:
    reader = SlowReader()
    reader.open.clear()
    assert lookup.find(reader, ["U5"])["U5"] == Found(None, "late")
    reader.open.set()
    wait_for(lambda: len(lookup._stale) == 1)
    reader.broken = True
    found = lookup.find(reader, ["U5"])["U5"]
    assert found.row is not None and found.row.history == fake_row("U5").history


def test_a_read_that_hung_does_not_hide_a_newer_row(lookup: Lookup) -> None:
    reader = SlowReader()
    reader.open.clear()
    assert lookup.find(reader, ["U5"])["U5"].outcome == "late"
    wait_for(lambda: reader.hanging == 1)
    newer = SlowReader()
    newer.told["U5"] = FakeRow("U5", [item_id(9)], {item_id(9)})
    assert lookup.find(newer, ["U5"])["U5"].row == newer.told["U5"]
    wait_for(lambda: len(lookup._stale) == 1)
    reader.open.set()  # the older row arrives now
    wait_for(lambda: reader.reads == 1 and reader.hanging == 0)
    time.sleep(0.05)
    found = lookup.find(FakeReader(broken=True), ["U5"])["U5"]
    assert found.row is not None and found.row.history == [item_id(9)]


def test_a_store_that_gives_too_few_rows_failed(lookup: Lookup) -> None:
    class Short(FakeReader):
        def read(self, user_ids: Sequence[str]) -> list[FakeRow]:
            return super().read(user_ids)[1:]

    assert lookup.find(Short(), ["U5", "U6"])["U5"] == Found(None, "failed")


def test_remembering_can_be_switched_off(meter: MemoryMeter) -> None:
    lookup = Lookup(LookupSettings(budget_ms=BUDGET_MS, stale_mib=0), meter)
    reader = FakeReader()
    lookup.find(reader, ["U5"])
    time.sleep(0.05)
    reader.broken = True
    assert lookup.find(reader, ["U5"])["U5"] == Found(None, "failed")


def test_remembered_rows_are_bounded_in_memory() -> None:
    """The bound is one of bytes, of what Python really takes; the users used last stay."""
    limit = 2 * 2**20

    def row(user: int) -> tuple[str, FakeRow]:
        items = [f"item-{user}-{n}" for n in range(user % 300)]
        return f"user-{user}", FakeRow(f"user-{user}", items[:50], set(items))

    rows = StaleRows(limit)
    tracemalloc.start()
    try:
        for user in range(2500):
            rows.put([row(user)], float(user))
            rows.get("user-7")
        size, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert 0.7 * limit < size < 1.2 * limit
    assert 100 < len(rows) < 2500
    kept = rows.get("user-7")
    assert kept is not None and kept.seen == row(7)[1].seen
    assert rows.get("user-2499") is not None and rows.get("user-8") is None


def test_many_small_rows_are_bounded_too() -> None:
    limit = 2**20
    rows = StaleRows(limit)
    tracemalloc.start()
    try:
        for user in range(20_000):
            rows.put([(f"u{user}", FakeRow(f"u{user}", ["a"], {"a"}))], 0.0)
        size, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert 0.6 * limit < size < 1.3 * limit


def test_remembered_rows_age() -> None:
    now = [100.0]
    rows = StaleRows(10**6, lambda: now[0])
    rows.put([("a", FakeRow("a", ["x"], {"x", "y"})), ("b", FakeRow("b", known=False))], 100.0)
    assert rows.get("b") is None
    rows.put([("a", FakeRow("a", ["old"], {"old"}))], 99.0)  # began earlier
    now[0] += 7
    found = rows.get("a")
    assert found is not None
    assert (found.history, found.seen, found.age_s) == (["x"], {"x", "y"}, 7.0)
    now[0] += KEPT_S
    assert rows.get("a") is None and len(rows) == 0 and rows._bytes == 0


def test_remembered_rows_from_many_threads() -> None:
    rows = StaleRows(200 * (stale_module.OVERHEAD + 30))

    def work(start: int) -> None:
        for n in range(500):
            user = f"U{(start * 37 + n) % 400}"
            rows.put([(user, FakeRow(user, [user], {user}))], float(n))
            found = rows.get(f"U{n % 400}")
            assert found is None or found.history == [f"U{n % 400}"]

    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert 0 < len(rows) <= 250
    assert rows._bytes == sum(
        stale_module._size(user, packed) for user, (_, packed) in rows._rows.items()
    )


def test_the_breaker_lets_one_probe_through_at_a_time() -> None:
    now = [0.0]
    breaker = Breaker(lambda: now[0])
    for _ in range(FAILURES - 1):
        breaker.tell(answered=False)
    assert breaker.lets()
    breaker.tell(answered=True)  # not in a row
    for _ in range(FAILURES):
        assert breaker.lets()
        breaker.tell(answered=False)
    assert breaker.open and not breaker.lets()
    now[0] += PROBE_S
    assert breaker.lets() and not breaker.lets()
    breaker.tell(answered=False)
    assert not breaker.lets()
    now[0] += PROBE_S
    assert breaker.lets()
    breaker.tell(answered=True)
    assert not breaker.open and breaker.lets() and breaker.lets()


def test_workers_are_as_many_as_they_are_and_survive_a_fault(
    caplog: pytest.LogCaptureFixture,
) -> None:
    workers, gate, done = Workers(2, "test"), threading.Event(), []
    assert workers.start(lambda: gate.wait(20))
    assert workers.start(lambda: [][1])
    wait_for(lambda: workers._busy == 1)
    assert "a task of test failed" in caplog.text
    assert workers.start(lambda: done.append(gate.wait(20)))
    assert not workers.start(lambda: done.append(True))
    gate.set()
    wait_for(lambda: workers._busy == 0)
    assert done == [True]
    workers.close()
    for thread in workers._threads:
        thread.join(5)
        assert not thread.is_alive()


def test_a_thread_that_cannot_start_takes_no_place(monkeypatch: pytest.MonkeyPatch) -> None:
    workers, done = Workers(1, "test"), []

    def start(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", start)
        assert not workers.start(lambda: None)
    assert workers.start(lambda: done.append(1))
    wait_for(lambda: done == [1])
    workers.close()


def test_complaints_are_counted_while_they_are_not_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    import logging

    now = [0.0]
    quiet = Quiet(logging.getLogger("test"), lambda: now[0])
    for _ in range(5):
        quiet.error("no answer for %d users", 3)
    now[0] += QUIET_S
    quiet.error("no answer for %d users", 4)
    assert caplog.messages == [
        "no answer for 3 users",
        "no answer for 4 users (and 4 complaints before, not logged)",
    ]
