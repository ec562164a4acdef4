"""Our metrics on Triton's metrics endpoint, through the python backend's `MetricFamily`."""

from __future__ import annotations

import itertools
import logging
import threading
from typing import Any

from tesserec.serving.meter import METRICS, MemoryMeter, Sample

log = logging.getLogger(__name__)
EVERY_S = 1.0  # a call to the server costs 50 us: requests add in memory, a thread carries it over


class TritonMeter(MemoryMeter):
    """Adds up in memory; once a second what has changed is told to the server.

    A histogram is a family of counters for each of `_bucket`, `_sum` and `_count`: the server's
    own kind takes one observation a call, which at 1,000 batches a second would be a quarter of a
    core. To Prometheus both are the same.

    Args:
        family: `pb_utils.MetricFamily`, which there is only inside the server.
    """

    def __init__(self, family: Any, every_s: float = EVERY_S) -> None:
        super().__init__()
        self._families = _families(family)
        self._metrics: dict[Sample, Any] = {}
        self._told: dict[Sample, float] = {}
        self._begin()
        self._stop = threading.Event()
        self._thread = threading.Thread(
            target=self._follow, args=(every_s,), name="meter", daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        """Stop telling; the server takes no more calls once its model is unloaded."""
        self._stop.set()
        self._thread.join(timeout=5)

    def flush(self) -> None:
        """Tell the server what has changed."""
        for sample, value in self.samples().items():
            before = self._told.get(sample)
            if value == before:
                continue
            name, labels = sample
            if sample not in self._metrics:
                self._metrics[sample] = self._families[name].Metric(labels=dict(labels))
            if name in METRICS and METRICS[name].kind == "gauge":
                self._metrics[sample].set(value)
            else:
                self._metrics[sample].increment(value - (before or 0.0))
            self._told[sample] = value

    def _begin(self) -> None:
        """Every series whose labels are known is there from the start: a rate needs its 0."""
        for name, metric in METRICS.items():
            for values in itertools.product(*metric.labels.values()):
                key = (name, *values)
                self.values[key] += 0
                if metric.kind == "histogram":
                    self._buckets[key] = [0] * (len(metric.buckets) + 1)
                    self._sums[key] += 0
        self.flush()

    def _follow(self, every_s: float) -> None:
        said = ""
        while not self._stop.wait(every_s):
            try:
                self.flush()
                said = ""
            except Exception as error:  # the backend's own class; numbers are no reason to end
                if str(error) != said:  # once, not every second
                    said = str(error)
                    log.exception("the server does not take our metrics")


def _families(family: Any) -> dict[str, Any]:
    """A family of the server for each name of a series."""
    found = {}
    for name, metric in METRICS.items():
        ends = ("_bucket", "_sum", "_count") if metric.kind == "histogram" else ("",)
        kind = family.GAUGE if metric.kind == "gauge" else family.COUNTER
        for end in ends:
            found[name + end] = family(name=name + end, description=metric.help, kind=kind)
    return found
