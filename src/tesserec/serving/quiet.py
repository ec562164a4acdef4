"""Complaints of a request's path: each kind is logged once in a while, not once a request."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

QUIET_S = 60.0


class Quiet:
    """Logs errors, and is silent for `QUIET_S` after each."""

    def __init__(self, log: logging.Logger, clock: Callable[[], float] = time.monotonic) -> None:
        self._log = log
        self._clock = clock
        self._lock = threading.Lock()
        self._again_at = 0.0
        self._silenced = 0

    def error(self, text: str, *values: object, trace: bool = False) -> None:
        with self._lock:
            if self._clock() < self._again_at:
                self._silenced += 1
                return
            silenced, self._silenced = self._silenced, 0
            self._again_at = self._clock() + QUIET_S
        said = f" (and {silenced} complaints before, not logged)" if silenced else ""
        self._log.error(text + said, *values, exc_info=trace)
