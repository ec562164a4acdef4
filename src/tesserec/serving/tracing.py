"""Traces of requests: Triton's own OpenTelemetry exporter, and our stages within its spans.

Triton makes the spans of a request (received, queued, computed) and sends them. What happens inside
`compute` it can't know: `Tracer` adds a span for each stage, to the same collector.
"""

from __future__ import annotations

import json
import logging
import os
import threading
import time
import urllib.request
from collections import deque
from collections.abc import Iterable
from typing import Any

from tesserec.config import TraceSettings
from tesserec.serving.meter import Meter

log = logging.getLogger(__name__)
SERVICE = "tesserec"
STAGES = "tesserec_stage_seconds"
TRACE = "trace"  # beside a request's inputs: what Triton says of its span; empty: not traced
SPANS = 10_000  # waiting to be sent; then the oldest go
EVERY_S = 1.0
TIMEOUT_S = 5.0


def trace_flags(settings: TraceSettings) -> list[str]:
    """Of the server's command line; none without a collector, and then a trace costs nothing."""
    if not settings.url:
        return []
    return [
        "--trace-config=mode=opentelemetry",
        "--trace-config=level=TIMESTAMPS",
        f"--trace-config=rate={settings.rate}",
        f"--trace-config=opentelemetry,url={settings.url}",
        f"--trace-config=opentelemetry,resource=service.name={SERVICE}",
    ]


class Tracer:
    """A meter that hands everything on to another one and remembers the stages of a batch.

    Args:
        meter: where the numbers go.
        url: of the collector.
    """

    def __init__(self, meter: Meter, url: str, every_s: float = EVERY_S) -> None:
        self._meter, self._url = meter, url
        self._batch = threading.local()  # a second answer beside the served has its own stages
        self._spans: deque[dict[str, Any]] = deque(maxlen=SPANS)
        self._stop = threading.Event()
        self._thread = threading.Thread(
            target=self._follow, args=(every_s,), name="tracer", daemon=True
        )
        self._thread.start()

    def add(self, name: str, value: float = 1.0, **labels: str) -> None:
        self._meter.add(name, value, **labels)

    def set(self, name: str, value: float, **labels: str) -> None:
        self._meter.set(name, value, **labels)

    def observe(self, name: str, value: float, **labels: str) -> None:
        self._meter.observe(name, value, **labels)
        if name == STAGES:
            ended = time.time_ns()
            self._stages().append((labels["stage"], ended - int(value * 1e9), ended))

    def batch(self, contexts: Iterable[str]) -> None:
        """The batch that this thread has answered: its stages become spans of each traced request.

        Args:
            contexts: of each request what Triton says of its span; empty: it isn't traced.
        """
        stages, traced = self._stages(), [one for one in contexts if one]
        for context in traced:
            try:
                _, trace, parent, _ = json.loads(context)["traceparent"].split("-")
            except (ValueError, LookupError):  # no trace is worth a batch of answers
                continue
            for name, began, ended in stages:
                self._spans.append(_span(trace, parent, name, began, ended))
        stages.clear()

    def close(self) -> None:
        self._stop.set()
        self._thread.join(timeout=2 * TIMEOUT_S)
        self._meter.close()

    def flush(self) -> None:
        """Send what waits.

        Raises:
            OSError: the collector did not take it; these spans are lost.
        """
        spans = [self._spans.popleft() for _ in range(len(self._spans))]
        if not spans:
            return
        service = {"key": "service.name", "value": {"stringValue": SERVICE}}
        scopes = [{"scope": {"name": SERVICE}, "spans": spans}]
        tree = {"resourceSpans": [{"resource": {"attributes": [service]}, "scopeSpans": scopes}]}
        request = urllib.request.Request(
            self._url, json.dumps(tree).encode(), {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=TIMEOUT_S):
            pass

    def _stages(self) -> deque[tuple[str, int, int]]:
        """Name, begin and end (nanoseconds since 1970) of this thread's stages."""
        if not hasattr(self._batch, "stages"):
            self._batch.stages = deque(maxlen=100)
        return self._batch.stages

    def _follow(self, every_s: float) -> None:
        said = ""
        while True:
            ended = self._stop.wait(every_s)
            try:
                self.flush()
                said = ""
            except (OSError, ValueError) as error:
                if str(error) != said:  # once, not every second
                    said = str(error)
                    log.error("%s takes no spans: %s", self._url, error)
            if ended:
                return


def _span(trace: str, parent: str, name: str, began: int, ended: int) -> dict[str, Any]:
    """One span of OTLP in JSON; kind 1 is internal."""
    return {
        "traceId": trace,
        "spanId": os.urandom(8).hex(),
        "parentSpanId": parent,
        "name": name,
        "kind": 1,
        "startTimeUnixNano": str(began),
        "endTimeUnixNano": str(ended),
    }
