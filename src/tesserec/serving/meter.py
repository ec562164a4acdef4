"""What serving counts about itself: names, kinds and labels of our metrics, and who keeps them.

The handler and all its parts are given a `Meter`; inside Triton it feeds the server's own metrics
endpoint, elsewhere the numbers stay in memory.
"""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import dataclass
from typing import Protocol

SECONDS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
SHARES = (0.001, 0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 1.0)


@dataclass(frozen=True)
class Metric:
    """One family of Prometheus; `buckets` are upper bounds and for histograms alone."""

    kind: str  # counter | gauge | histogram
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()


METRICS = {
    "tesserec_stage_seconds": Metric(
        "histogram",
        "Seconds of a batch in each stage: features, model, decode, total",
        ("stage",),
        SECONDS,
    ),
    "tesserec_answers_total": Metric("counter", "Answers by their source", ("source",)),
    "tesserec_rejects_total": Metric(
        "counter", "Requests answered by an error: bad_request, internal", ("reason",)
    ),
    "tesserec_features_total": Metric(
        "counter", "Users looked up: read, unknown, late, failed, stale", ("outcome",)
    ),
    "tesserec_items_total": Metric("counter", "Items in answers: new, known", ("kind",)),
    "tesserec_allowed_share": Metric(
        "histogram", "Share of the catalogue that a request's rules allow", (), SHARES
    ),
    "tesserec_cache_total": Metric(
        "counter", "Look-ups in our caches: rules, stale users", ("cache", "outcome")
    ),
    "tesserec_release": Metric(
        "gauge", "1 for each release in memory, by its role", ("release_id", "role")
    ),
    "tesserec_release_changes_total": Metric(
        "counter", "Releases that came to serve or were refused", ("outcome",)
    ),
    "tesserec_shadow_total": Metric(
        "counter", "Shadow answers beside the served: equal, different, failed", ("outcome",)
    ),
    "tesserec_exposure_rows_total": Metric(
        "counter", "Rows of the exposure log: written, dropped", ("outcome",)
    ),
}


class Meter(Protocol):
    """Where numbers go; every name is one of `METRICS`, with exactly its labels."""

    def add(self, name: str, value: float = 1.0, **labels: str) -> None: ...

    def set(self, name: str, value: float, **labels: str) -> None: ...

    def observe(self, name: str, value: float, **labels: str) -> None: ...


class MemoryMeter:
    """Keeps sums in memory: for tests, and for a handler outside any server."""

    def __init__(self) -> None:
        self.values: Counter[tuple[str, ...]] = Counter()  # (name, label values...) -> number
        self._lock = threading.Lock()

    def add(self, name: str, value: float = 1.0, **labels: str) -> None:
        key = _key(name, labels)
        with self._lock:
            self.values[key] += value  # pyright: ignore[reportArgumentType]

    def set(self, name: str, value: float, **labels: str) -> None:
        key = _key(name, labels)
        with self._lock:
            self.values[key] = value  # pyright: ignore[reportArgumentType]

    def observe(self, name: str, value: float, **labels: str) -> None:
        """Counts observations; their values are not kept."""
        self.add(name, 1.0, **labels)


def _key(name: str, labels: dict[str, str]) -> tuple[str, ...]:
    """Raises KeyError for a metric or a label that isn't declared."""
    return (name, *(labels[label] for label in METRICS[name].labels))
