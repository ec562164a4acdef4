"""The stages of a batch become spans of its traced requests, off the request's path."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from tesserec.config import TraceSettings
from tesserec.errors import UsageError
from tesserec.serving.meter import MemoryMeter
from tesserec.serving.tracing import STAGES, Tracer, trace_flags

CONTEXT = '{"traceparent":"00-d83fad29f78e42d178e1f039833c8681-6fa5706da7a49a3c-01"}'


@pytest.fixture
def collector() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """URL of a server of HTTP, and the spans that reached it."""
    spans: list[dict[str, Any]] = []

    class Keep(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            tree = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            spans.extend(tree["resourceSpans"][0]["scopeSpans"][0]["spans"])
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            """Nothing: a test's output is the test's."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Keep) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/v1/traces", spans
        server.shutdown()
        thread.join()


def test_stages_are_children_of_each_traced_request(
    collector: tuple[str, list[dict[str, Any]]],
) -> None:
    url, spans = collector
    meter = MemoryMeter()
    tracer = Tracer(meter, url, every_s=3600)
    tracer.observe(STAGES, 0.002, stage="features")
    other = threading.Thread(
        target=lambda: tracer.observe(STAGES, 1, stage="decode")
    )  # a second answer
    other.start()
    other.join()
    tracer.observe(STAGES, 0.005, stage="total")
    tracer.observe("tesserec_allowed_share", 0.5)
    tracer.add("tesserec_answers_total", source="model")
    tracer.batch(["", CONTEXT, CONTEXT.replace("6fa5", "0000")])
    tracer.observe(STAGES, 0.003, stage="features")
    tracer.batch([""])
    tracer.close()
    assert [span["name"] for span in spans] == ["features", "total"] * 2
    assert {span["traceId"] for span in spans} == {"d83fad29f78e42d178e1f039833c8681"}
    parents = [span["parentSpanId"] for span in spans]
    assert parents == ["6fa5706da7a49a3c"] * 2 + ["0000706da7a49a3c"] * 2
    assert len({span["spanId"] for span in spans}) == 4
    took = int(spans[0]["endTimeUnixNano"]) - int(spans[0]["startTimeUnixNano"])
    assert took == 2_000_000
    assert meter.values[STAGES, "features"] == 2 and meter.values[STAGES, "decode"] == 1
    assert meter.values["tesserec_answers_total", "model"] == 1


def test_what_is_no_trace_costs_no_answer() -> None:
    tracer = Tracer(MemoryMeter(), "http://127.0.0.1:9/v1/traces", every_s=3600)
    tracer.observe(STAGES, 0.002, stage="total")
    tracer.batch(["", "none", "{}", '{"traceparent":"00-1"}', CONTEXT])
    assert len(tracer._spans) == 1
    tracer._spans.clear()
    tracer.close()


def test_a_collector_that_is_gone_costs_spans_and_nothing_else(
    caplog: pytest.LogCaptureFixture,
) -> None:
    tracer = Tracer(MemoryMeter(), "http://127.0.0.1:9/v1/traces", every_s=0.01)
    for _ in range(3):
        tracer.observe(STAGES, 0.002, stage="total")
        tracer.batch([CONTEXT])
    tracer.close()
    assert caplog.text.count("takes no spans") == 1


def test_off_there_are_no_flags() -> None:
    assert trace_flags(TraceSettings()) == []
    flags = trace_flags(TraceSettings(url="http://h:4318/v1/traces", rate=7))
    assert "--trace-config=rate=7" in flags and "--trace-config=mode=opentelemetry" in flags


@pytest.mark.parametrize(("key", "value"), [("url", "h:4318"), ("rate", 0)])
def test_settings_are_checked(key: str, value: Any) -> None:
    with pytest.raises(UsageError, match=rf"trace\.{key} is {value!r}"):
        TraceSettings(**{key: value})
