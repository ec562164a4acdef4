"""A circuit breaker: a store that does not answer is left alone, but for a probe now and then."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

FAILURES = 3  # in a row; then the store is left alone
PROBE_S = 0.5  # then one read in so long tries whether it is back


class Breaker:
    """Closed at first; open from `FAILURES` failures in a row on, until a probe succeeds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._failures = 0
        self._probe_at = 0.0

    @property
    def open(self) -> bool:
        return self._failures >= FAILURES

    def lets(self) -> bool:
        """Whether to ask the store now; while the breaker is open that is the probe."""
        with self._lock:
            if not self.open:
                return True
            if self._clock() < self._probe_at:
                return False
            self._probe_at = self._clock() + PROBE_S
            return True

    def tell(self, *, answered: bool) -> None:
        """How a read ended that `lets` let through."""
        with self._lock:
            self._failures = 0 if answered else self._failures + 1
            if not answered:
                self._probe_at = self._clock() + PROBE_S
