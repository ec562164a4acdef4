"""The rows of users read before, for when the feature store does not answer."""

from __future__ import annotations

import marshal
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from tesserec.serving.features import UserRow

KEPT_S = 86_400.0  # an older row is no longer believed; and a user deleted from the store is gone
OVERHEAD = 250  # bytes of an entry beside its user id and its row, measured


@dataclass(frozen=True)
class RememberedRow:
    """A row as it was `age_s` seconds ago."""

    history: list[str]
    seen: set[str]
    age_s: float
    known: bool = True


class StaleRows:
    """Rows by user, those used least recently dropped first; thread safe.

    A row of 50 events and 1,000 seen items would be 100 kB of Python objects, so it is kept as
    the bytes of its strings, and `limit` bounds the bytes of all of them; 0 keeps none.
    """

    def __init__(self, limit: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._limit = limit
        self._clock = clock
        self._lock = threading.Lock()
        self._rows: OrderedDict[str, tuple[float, bytes]] = OrderedDict()  # oldest use first
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._rows)

    def put(self, rows: Iterable[tuple[str, UserRow]], read_at: float) -> None:
        """Remember known rows of a read that began at `read_at`, by the clock.

        A read that began earlier than the one whose row is here (it hung, say) changes nothing.
        """
        if not self._limit:
            return
        for user, row in rows:
            if row.known:
                history = list(row.history)
                packed = marshal.dumps((history, list(set(row.seen).difference(history))))
                with self._lock:
                    self._put(user, read_at, packed)

    def get(self, user: str) -> RememberedRow | None:
        with self._lock:
            found = self._rows.get(user)
            if found is None:
                return None
            read_at, packed = found
            age_s = self._clock() - read_at
            if age_s > KEPT_S:
                self._drop(user)
                return None
            self._rows.move_to_end(user)
        history, rest = marshal.loads(packed)
        return RememberedRow(history, {*history, *rest}, age_s)

    def _put(self, user: str, read_at: float, packed: bytes) -> None:
        if user in self._rows:
            if self._rows[user][0] > read_at:
                return
            self._drop(user)
        self._rows[user] = (read_at, packed)
        self._bytes += _size(user, packed)
        while self._bytes > self._limit:
            self._drop(next(iter(self._rows)))

    def _drop(self, user: str) -> None:
        self._bytes -= _size(user, self._rows.pop(user)[1])


def _size(user: str, packed: bytes) -> int:
    return OVERHEAD + len(user) + len(packed)
