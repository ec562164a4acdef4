"""A client that holds requests back while the server refuses many of them.

A refusal costs a server nearly a third of a millisecond, so refusals alone can take up a small one.
A client that lately saw more refusals than half of what was taken on refuses a share of its
requests itself, at once, and all of them at twice as many. (The idea is that of Beyer et al., Site
Reliability Engineering, chapter 21; here what is held back is not counted, so that all is sent
again as soon as the server takes it.)
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable

BORNE = 0.5  # refusals beside each request taken on
ALWAYS = 5.0  # refusals of the last second that hold nothing back in any case
HALF_LIFE_S = 0.5


class Throttle:
    """Counts requests, old ones less and less; threads may share it."""

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self._clock, self._draw = clock, draw
        self._taken = self._refused = 0.0
        self._at = clock()
        self._lock = threading.Lock()

    def admits(self) -> bool:
        """Whether to send a request now."""
        with self._lock:
            self._age()
            borne = BORNE * self._taken + ALWAYS
            return self._refused <= borne or self._draw() >= self._refused / borne - 1

    def count(self, *, taken: bool) -> None:
        """The server has taken a request on, or refused it as it has too many."""
        with self._lock:
            self._age()
            self._taken += taken
            self._refused += not taken

    def _age(self) -> None:
        now = self._clock()
        share = 0.5 ** ((now - self._at) / HALF_LIFE_S)
        self._taken, self._refused, self._at = self._taken * share, self._refused * share, now
