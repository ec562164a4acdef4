"""What serving counts about itself: names, kinds and labels of our metrics, and who keeps them.

The handler and all its parts are given a `Meter`; inside Triton it feeds the server's own metrics
endpoint, elsewhere the numbers stay in memory.
"""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

# A request takes 1 to 50 ms: the bounds are close together there.
SECONDS = (
    *(0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.03, 0.05, 0.075, 0.1),
    *(0.2, 0.5, 1.0, 2.0),
)
SHARES = (0.001, 0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 1.0)
OTHER = "other"  # a label's value that isn't declared: the number of series stays bounded
Sample = tuple[str, tuple[tuple[str, str], ...]]  # name of a series, its labels and their values


@dataclass(frozen=True)
class Metric:
    """One family of Prometheus.

    `labels` names the values of each label, which are there from the start, at 0; a label without
    values takes any. `buckets` are upper bounds and for histograms alone.
    """

    kind: str  # counter | gauge | histogram
    help: str
    labels: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    buckets: tuple[float, ...] = ()


METRICS = {
    "tesserec_stage_seconds": Metric(
        "histogram",
        "Seconds of a batch in each stage",
        {"stage": ("features", "model", "decode", "total")},
        SECONDS,
    ),
    "tesserec_queue_seconds": Metric(
        "histogram", "Seconds that an answered request waited for its batch", {}, SECONDS
    ),
    "tesserec_answers_total": Metric(
        "counter",
        "Answers by their source",
        {"source": ("model", "model_stale", "popular_in_category", "popular")},
    ),
    "tesserec_rejects_total": Metric(
        "counter",
        "Requests answered by an error",
        {"reason": ("bad_request", "internal", "full", "late", "gone")},
    ),
    "tesserec_features_total": Metric(
        "counter",
        "Users looked up in the online store",
        {"outcome": ("read", "unknown", "late", "failed", "skipped")},
    ),
    "tesserec_model_failures_total": Metric(
        "counter", "Good requests on which the model failed; popular items were the answer"
    ),
    "tesserec_items_total": Metric("counter", "Items in answers", {"kind": ("new", "known")}),
    "tesserec_allowed_share": Metric(
        "histogram", "Share of the catalogue that a request's rules allow", {}, SHARES
    ),
    "tesserec_cache_total": Metric(
        "counter",
        "Look-ups in caches",
        {"cache": ("rules", "users"), "outcome": ("hit", "miss")},
    ),
    "tesserec_release": Metric(
        "gauge",
        "1 for each release in memory, by its role; 0 for a former one",
        {"release_id": (), "role": ()},
    ),
    "tesserec_fallback": Metric(
        "gauge", "1 while another release than the promoted one answers, as that one is no good"
    ),
    "tesserec_release_changes_total": Metric(
        "counter",
        "Changes of releases",
        {"outcome": ("serving", "tried", "refused", "withdrawn", "cancelled", "settled")},
    ),
    "tesserec_server_restarts_total": Metric(
        "counter", "How often the server died and was started again"
    ),
    "tesserec_shadow_total": Metric(
        "counter",
        "Second answers beside the served",
        {"outcome": ("equal", "different", "failed", "dropped")},
    ),
    "tesserec_exposure_rows_total": Metric(
        "counter", "Rows of the exposure log", {"outcome": ("written", "dropped")}
    ),
    "tesserec_exposure_bytes": Metric("gauge", "Size of the exposure log of the working folder"),
}


class Meter(Protocol):
    """Where numbers go; every name is one of `METRICS`, with exactly its labels."""

    def add(self, name: str, value: float = 1.0, **labels: str) -> None: ...

    def set(self, name: str, value: float, **labels: str) -> None: ...

    def observe(self, name: str, value: float, **labels: str) -> None: ...

    def close(self) -> None: ...


class MemoryMeter:
    """Keeps sums in memory: for tests, and for a handler outside any server.

    `values` maps (name, label values...) to a counter, a gauge, or how many were observed.
    """

    def __init__(self) -> None:
        self.values: Counter[tuple[str, ...]] = Counter()
        self._sums: Counter[tuple[str, ...]] = Counter()
        self._buckets: dict[tuple[str, ...], list[int]] = {}  # the last one: above all bounds
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
        key, bounds = _key(name, labels), METRICS[name].buckets
        with self._lock:
            self.values[key] += 1
            self._sums[key] += value  # pyright: ignore[reportArgumentType]
            if key not in self._buckets:
                self._buckets[key] = [0] * (len(bounds) + 1)
            self._buckets[key][bisect_left(bounds, value)] += 1

    def close(self) -> None:
        """Nothing is open."""

    def samples(self) -> dict[Sample, float]:
        """Everything as Prometheus knows it: a histogram is `_bucket`, `_sum` and `_count`."""
        with self._lock:
            values, sums = dict(self.values), dict(self._sums)
            buckets = {key: list(counts) for key, counts in self._buckets.items()}
        found: dict[Sample, float] = {}
        for key, value in values.items():
            name, metric = key[0], METRICS[key[0]]
            labels = tuple(zip(metric.labels, key[1:], strict=True))
            if metric.kind != "histogram":
                found[name, labels] = value
                continue
            below = 0
            bounds = [*(f"{bound:g}" for bound in metric.buckets), "+Inf"]
            for bound, count in zip(bounds, buckets[key], strict=True):
                below += count
                found[f"{name}_bucket", (*labels, ("le", bound))] = below
            found[f"{name}_sum", labels] = sums[key]
            found[f"{name}_count", labels] = value
        return found


def _key(name: str, labels: dict[str, str]) -> tuple[str, ...]:
    """Raises KeyError for a metric or a label that isn't declared."""
    known = METRICS[name].labels
    if len(labels) != len(known):
        raise KeyError(f"{name} has the labels {', '.join(known)}, not {', '.join(labels)}")
    found = [name]
    for label, values in known.items():
        value = labels[label]
        found.append(value if not values or value in values else OTHER)
    return tuple(found)
