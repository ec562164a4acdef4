"""The features of a batch's users: one read, within a budget, and what to do without an answer.

The store is read by threads of our own, so that a batch waits no longer than its budget whatever
a driver does. A store that hangs holds `READERS` threads at most; a breaker then leaves it alone.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from tesserec.config import LookupSettings
from tesserec.serving.breaker import Breaker
from tesserec.serving.features import PATIENCE_S, Reader, UserRow
from tesserec.serving.meter import Meter
from tesserec.serving.quiet import Quiet
from tesserec.serving.stale import RememberedRow, StaleRows
from tesserec.serving.workers import Workers

log = logging.getLogger(__name__)
READERS = 4  # threads; one reads, the others are for when it hangs
MIB = 2**20


@dataclass(frozen=True)
class Found:
    """What is known of one user.

    `outcome` is what the store did: `read` (it gave a row), `unknown` (it has none), `late` or
    `failed` (it didn't answer), `skipped` (it wasn't asked, as it has not answered for a while).
    Without a row of the store, `row` is one remembered of an earlier read, if there is one.
    """

    row: UserRow | None
    outcome: str

    @property
    def age_s(self) -> float | None:
        """How long ago a remembered row was read; None for a fresh one, or without any."""
        return self.row.age_s if isinstance(self.row, RememberedRow) else None


class Lookup:
    """Reads users' rows for the handler."""

    def __init__(self, settings: LookupSettings, meter: Meter) -> None:
        self._budget_s = settings.budget_ms / 1000
        self._meter = meter
        self._breaker = Breaker()
        self._workers = Workers(READERS, "features")
        self._stale = StaleRows(settings.stale_mib * MIB)
        self._complain = Quiet(log).error

    def find(self, reader: Reader, user_ids: Iterable[str]) -> dict[str, Found]:
        """What is known of each user; one read of the store, never an exception."""
        users = sorted(set(user_ids))
        if not users:
            return {}
        outcome, rows = self._ask(reader, users)
        found = {}
        for place, user in enumerate(users):
            if rows is not None and rows[place].known:
                found[user] = Found(rows[place], "read")
            else:
                found[user] = Found(self._remembered(user), outcome if rows is None else "unknown")
            self._meter.add("tesserec_features_total", outcome=found[user].outcome)
        return found

    def warm(self, reader: Reader) -> None:
        """Open in a thread of ours what a first read opens; a silent store is none of its concern.

        So that the first batches don't find the store late for that alone.
        """
        read = _Read(reader, [""])
        if self._workers.start(lambda: self._run(read)):
            read.done.wait(PATIENCE_S)

    def close(self) -> None:
        self._workers.close()

    def _ask(self, reader: Reader, users: list[str]) -> tuple[str, Sequence[UserRow] | None]:
        """(outcome, rows); no rows unless the store answered in time."""
        if not self._breaker.lets():
            return "skipped", None
        read = _Read(reader, users)
        if not self._workers.start(lambda: self._run(read)):
            self._breaker.tell(answered=False)
            return "skipped", None
        done = read.done.wait(self._budget_s)
        rows = read.rows if done else None
        self._breaker.tell(answered=rows is not None)
        if not done:
            self._complain("the feature store is late: over %g ms", 1000 * self._budget_s)
        return ("failed" if done else "late"), rows

    def _run(self, read: _Read) -> None:
        """In a thread of ours: read, tell the batch, and remember, also what comes too late."""
        began = time.monotonic()
        try:
            rows = read.reader.read(read.users)
            if len(rows) != len(read.users):
                raise ValueError(f"{len(rows)} rows for {len(read.users)} users")
        except Exception:  # whatever the store's driver raises: answer without it
            self._complain("the feature store failed for %d users", len(read.users), trace=True)
            read.done.set()
            return
        read.rows = rows
        read.done.set()
        self._stale.put(zip(read.users, rows, strict=True), began)

    def _remembered(self, user: str) -> RememberedRow | None:
        row = self._stale.get(user)
        outcome = "miss" if row is None else "hit"
        self._meter.add("tesserec_cache_total", cache="users", outcome=outcome)
        return row


class _Read:
    """One read of the store, between the batch that waits for it and the thread that does it."""

    def __init__(self, reader: Reader, users: list[str]) -> None:
        self.reader = reader
        self.users = users
        self.rows: Sequence[UserRow] | None = None
        self.done = threading.Event()
