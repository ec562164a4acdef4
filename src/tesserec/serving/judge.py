"""What two releases did with real requests, and whether the newer one stays within its bands.

Times are those of the processor in the thread that answers: what else the machine does, and what
the interpreter does in other threads, is not the release's fault.
"""

from __future__ import annotations

import threading
from collections import defaultdict, deque
from collections.abc import Sequence
from typing import Any

import numpy as np

from tesserec.config import ChangeSettings
from tesserec.errors import RequestError, ServingError

KEPT = 512  # times kept for each size of batch
COMPARED = 30  # times of a size from which a quantile of it says something
SLACK_S = 0.005  # a difference below this is never too slow


class Tally:
    """Good requests to one release: how many, how many failed, and how long batches took."""

    def __init__(self) -> None:
        self.requests = 0
        self.errors = 0
        self._lock = threading.Lock()
        # By size class of the batch: a canary's batches are small, and small ones are quick.
        self._seconds: dict[int, deque[float]] = defaultdict(lambda: deque(maxlen=KEPT))

    def count(self, answers: Sequence[Any], seconds: float) -> None:
        errors = sum(map(failed, answers))
        # a release can't help bad requests, and many of them mustn't hide that it fails good ones
        good = sum(not isinstance(one, RequestError) for one in answers)
        with self._lock:
            self.requests += good
            self.errors += errors
            self._seconds[len(answers).bit_length()].append(seconds)

    @property
    def error_rate(self) -> float:
        return self.errors / self.requests if self.requests else 0.0

    def seconds(self) -> dict[int, list[float]]:
        with self._lock:
            return {size: list(times) for size, times in self._seconds.items()}


def failed(answer: Any) -> bool:
    """Whether the release could not answer a good request, even if popular items made up for it."""
    return isinstance(answer, ServingError) or getattr(answer, "model_failed", False)


class Judge:
    """Compares a newer release with an older one; a band counts from enough requests on."""

    def __init__(self, settings: ChangeSettings, newer: Tally, older: Tally) -> None:
        self._settings = settings
        self.newer = newer
        self.older = older
        self._errors_before = (older.requests, older.errors)
        self._overlaps = (0, 0.0)  # count and sum

    def compared(self, overlap: float) -> None:
        """The share of items that both gave to one request; called by one thread."""
        self._overlaps = (self._overlaps[0] + 1, self._overlaps[1] + overlap)

    @property
    def comparisons(self) -> int:
        return self._overlaps[0]

    @property
    def agreement(self) -> float | None:
        count, total = self._overlaps
        return total / count if count else None

    @property
    def latency(self) -> tuple[float, float] | None:
        """p95 of the newer and the older one in s, for the batch size of which most is known."""
        ours, theirs = self.newer.seconds(), self.older.seconds()
        sizes = [s for s in ours if min(len(ours[s]), len(theirs.get(s, ()))) >= COMPARED]
        if not sizes:
            return None
        size = max(sizes, key=lambda s: len(ours[s]))
        return float(np.quantile(ours[size], 0.95)), float(np.quantile(theirs[size], 0.95))

    def figures(self) -> dict[str, float | None]:
        """`requests, error_rate, latency_ratio, agreement`; null where nothing is known."""
        latency = self.latency
        return {
            "requests": self.newer.requests,
            "error_rate": self.newer.error_rate,
            "latency_ratio": latency[0] / max(latency[1], 1e-9) if latency else None,
            "agreement": self.agreement,
        }

    def problem(self) -> str | None:
        """Why the newer release should not go on, or None."""
        bands, ours = self._settings, self.newer
        if ours.requests >= bands.requests:
            excess = ours.error_rate - self._older_rate()
            if excess > bands.error_rate:
                return (
                    f"{ours.errors} of {ours.requests} requests failed, "
                    f"{100 * excess:.2f} % more than before (band: {100 * bands.error_rate:g} %)"
                )
            latency = self.latency
            if latency and latency[0] > bands.latency_ratio * latency[1] + SLACK_S:
                return (
                    f"p95 is {1000 * latency[0]:.1f} ms against {1000 * latency[1]:.1f} ms "
                    f"(band: {bands.latency_ratio:g} times)"
                )
        count, total = self._overlaps
        if count >= bands.requests and total / count < bands.agreement:
            agreement = total / count
            return (
                f"{100 * agreement:.1f} % of its items are those of the other release "
                f"(band: {100 * bands.agreement:g} %)"
            )
        return None

    def _older_rate(self) -> float:
        """Of the requests that the older release answered since; before, if there are none."""
        requests = self.older.requests - self._errors_before[0]
        if not requests:
            return self.older.error_rate
        return (self.older.errors - self._errors_before[1]) / requests
