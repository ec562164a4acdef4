"""What a real Triton tells about itself: metrics, the exposure log, traces."""

from __future__ import annotations

import http.server
import itertools
import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tesserec.config import ExposureSettings, ServeSettings, TraceSettings
from tesserec.data.exposures import exposures_folder, read_exposures
from tesserec.errors import RequestError
from tesserec.serving.client import Recommender
from tesserec.serving.meter import METRICS, OTHER, SECONDS
from tesserec.serving.tracing import SERVICE
from tesserec.serving.triton import TritonProcess, start
from tests.fakes.metrics import scrape
from tests.integration.serving.conftest import Shop

pytestmark = [pytest.mark.triton, pytest.mark.timeout(300)]
SELECTOR = re.compile(r"\b((?:tesserec|nv)_\w+)(?:\{([^}]*)\})?")
MONITORING = Path(__file__).parents[3] / "infra" / "monitoring"


class Collector(http.server.ThreadingHTTPServer):
    """Takes OTLP over HTTP and keeps the spans."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Keep)
        self.spans: list[dict[str, Any]] = []
        self.services: set[str] = set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1/traces"


class Keep(http.server.BaseHTTPRequestHandler):
    server: Collector  # pyright: ignore[reportIncompatibleVariableOverride]

    def do_POST(self) -> None:
        tree = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        for resource in tree["resourceSpans"]:
            for one in resource["resource"]["attributes"]:
                if one["key"] == "service.name":
                    self.server.services.add(one["value"]["stringValue"])
            for scope in resource["scopeSpans"]:
                self.server.spans += scope["spans"]
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: a test's output is the test's."""


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    with Collector() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def seen(shop: Shop, project: Path, collector: Collector) -> Iterator[TritonProcess]:
    """A server that logs every answer and traces every request."""
    settings = ServeSettings(
        exposure=ExposureSettings(share=1.0, flush_s=0.5),
        trace=TraceSettings(url=collector.url, rate=1),
    )
    with start(shop.workdir, project, settings=settings, publish=False) as running:
        yield running


@pytest.fixture(scope="module")
def asked(seen: TritonProcess) -> list[str]:
    """The users who were answered, after 40 good requests and 5 bad ones."""
    users = [f"U{number}" for number in range(40)]
    with Recommender(seen.grpc, timeout_s=20) as client:
        for user in users:
            client.recommend(user_id=user, k=5, rules={"deny": ["brand:B1"]})
        for _ in range(5):
            with pytest.raises(RequestError):
                client.recommend(user_id="U1", k=0)
    return users


def eventually(done: Callable[[], bool], seconds: float = 20.0) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if done():
            return True
        time.sleep(0.1)
    return False


def test_our_numbers_stand_beside_the_server_s(seen: TritonProcess, asked: list[str]) -> None:
    good = ("tesserec_answers_total", "source=model")
    assert eventually(lambda: scrape(seen)[good] >= len(asked) - 1)
    found = scrape(seen)
    answers = sum(v for key, v in found.items() if key[0] == "tesserec_answers_total")
    assert answers == len(asked) + 1, "and the question by which the start is checked"
    assert found["tesserec_rejects_total", "reason=bad_request"] == 5
    assert found["tesserec_rejects_total", "reason=internal"] == 0
    total = "stage=total"
    batches = found["tesserec_stage_seconds_count", total]
    assert 0 < batches <= answers + 5
    assert found["tesserec_stage_seconds_bucket", "le=+Inf", total] == batches
    below = [found["tesserec_stage_seconds_bucket", f"le={b:g}", total] for b in SECONDS]
    assert below == sorted(below)
    assert 0 < found["tesserec_stage_seconds_sum", total] < 60
    assert any(key[0] == "nv_inference_request_success" for key in found)
    assert not [key for key in found if any(f"={OTHER}" in part for part in key)]


def test_every_metric_of_ours_is_there_from_the_start(seen: TritonProcess) -> None:
    names = {key[0] for key in scrape(seen)}
    open_ones = {name for name, metric in METRICS.items() if not all(metric.labels.values())}
    for name in METRICS.keys() - open_ones:
        end = "_bucket" if METRICS[name].kind == "histogram" else ""
        assert name + end in names, name


def test_what_was_shown_is_in_the_log(seen: TritonProcess, shop: Shop, asked: list[str]) -> None:
    def rows() -> list[dict[str, Any]]:
        """Of this server: others of the folder log a share of their answers."""
        every = [row for batch in read_exposures(shop.workdir) for row in batch.to_pylist()]
        return [row for row in every if row["share"] == 1.0]

    assert eventually(lambda: len(rows()) > len(asked))
    found = {row["user_id"]: row for row in rows() if row["user_id"]}
    assert set(found) == set(asked)
    with Recommender(seen.grpc, timeout_s=20) as client:
        answer = client.recommend(user_id="U7", k=5, rules={"deny": ["brand:B1"]})
    assert found["U7"]["item_ids"] == answer.item_ids
    assert found["U7"]["release_id"] == answer.release_id == shop.releases[0]
    assert found["U7"]["source"] == answer.source and found["U7"]["share"] == 1.0
    written = ("tesserec_exposure_rows_total", "outcome=written")
    assert eventually(lambda: scrape(seen)[written] == len(rows()))
    size = sum(p.stat().st_size for p in exposures_folder(shop.workdir).rglob("*.parquet"))
    assert scrape(seen)["tesserec_exposure_bytes",] > 0 and size > 0


def test_a_traced_request_shows_where_its_time_went(
    seen: TritonProcess, collector: Collector, asked: list[str]
) -> None:
    def named(name: str) -> list[dict[str, Any]]:
        return [span for span in collector.spans if span["name"] == name]

    assert eventually(lambda: len(named("InferRequest")) > len(asked))
    assert SERVICE in collector.services
    by_id = {span["spanId"]: span for span in collector.spans}
    compute = named("compute")[-1]
    model = by_id[compute["parentSpanId"]]
    request = by_id[model["parentSpanId"]]
    assert (model["name"], request["name"]) == ("recommend", "InferRequest")
    assert "parentSpanId" not in request and request["traceId"] == compute["traceId"]
    assert {"QUEUE_START", "REQUEST_END"} <= {event["name"] for event in model["events"]}
    began, ended = (int(compute[f"{edge}TimeUnixNano"]) for edge in ("start", "end"))
    assert int(request["startTimeUnixNano"]) < began < ended <= int(request["endTimeUnixNano"])
    assert eventually(lambda: len(named("total")) >= len(asked))
    stages = [span for span in collector.spans if span.get("parentSpanId") == model["spanId"]]
    inside = {span["name"]: span for span in stages}
    assert {"compute", "features", "total"} <= set(inside), "ours beside Triton's"
    assert began < int(inside["total"]["startTimeUnixNano"])
    assert int(inside["total"]["endTimeUnixNano"]) < int(request["endTimeUnixNano"])


@pytest.mark.usefixtures("asked")
def test_panels_and_alerts_ask_for_what_there_is(seen: TritonProcess) -> None:
    """Every series that an expression selects is one of the real server's."""
    series = [(key[0], set(key[1:])) for key in scrape(seen)]
    for title, expression in expressions():
        selectors = SELECTOR.findall(expression)
        assert selectors, title
        for name, inner in selectors:
            wished = [
                [f"{label}={value}" for value in values.split("|")]
                for label, values in re.findall(r'(\w+)=~?"([^"]*)"', inner)
            ]
            for choice in itertools.product(*wished):
                there = any(name == one and set(choice) <= labels for one, labels in series)
                assert there, f"{title}: there is no {name} with {choice}"


def expressions() -> list[tuple[str, str]]:
    """Title and PromQL of the server's panels and alerts; `up` and `job` are Prometheus' own.

    What re-tokenization tells stands in a textfile, see tests/contract/test_monitoring.py.
    """
    dashboard = json.loads((MONITORING / "grafana-dashboard.json").read_text())
    alerts = yaml.safe_load((MONITORING / "alerts.yml").read_text())
    rules = [rule for group in alerts["groups"][:1] for rule in group["rules"]]
    found = [(p["title"], target["expr"]) for p in dashboard["panels"] for target in p["targets"]]
    return [*found, *((rule["alert"], rule["expr"]) for rule in rules if "up{" not in rule["expr"])]
