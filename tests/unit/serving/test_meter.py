"""Numbers add up, reach the server once they have changed, and make a bounded number of series."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest

from tesserec.serving.meter import METRICS, OTHER, SECONDS, MemoryMeter
from tesserec.serving.meter_triton import TritonMeter


class FakeMetric:
    def __init__(self, calls: list[tuple[Any, ...]], name: str, labels: dict[str, str]) -> None:
        self.calls, self.name, self.labels, self.value = calls, name, labels, 0.0

    def increment(self, value: float) -> None:
        assert value >= 0, "a counter never falls"
        self.calls.append((self.name, self.labels, value))
        self.value += value

    def set(self, value: float) -> None:
        self.calls.append((self.name, self.labels, value))
        self.value = value


class FakeFamily:
    """As `pb_utils.MetricFamily`; what was made lies in `made`, the calls in `calls`."""

    COUNTER, GAUGE = "counter", "gauge"
    made: dict[tuple[str, ...], FakeMetric]
    calls: list[tuple[Any, ...]]

    def __init__(self, *, name: str, description: str, kind: str) -> None:
        assert description and kind in (self.COUNTER, self.GAUGE)
        self.name = name

    def Metric(self, *, labels: dict[str, str]) -> FakeMetric:
        made = FakeMetric(self.calls, self.name, labels)
        key = (self.name, *labels.values())
        assert key not in self.made
        self.made[key] = made
        return made


@pytest.fixture
def family() -> type[FakeFamily]:
    return type("Family", (FakeFamily,), {"made": {}, "calls": []})


def test_a_histogram_as_prometheus_knows_it() -> None:
    meter = MemoryMeter()
    for seconds in (0.0004, 0.002, 0.0021, 9.0):
        meter.observe("tesserec_stage_seconds", seconds, stage="model")
    found = meter.samples()
    labels = (("stage", "model"),)
    below = {
        dict(key[1])["le"]: value for key, value in found.items() if key[0].endswith("_bucket")
    }
    assert below["0.0005"] == 1
    assert below["0.002"] == 2, "a bound belongs to its bucket"
    assert below["0.003"] == below["2"] == 3
    assert below["+Inf"] == found["tesserec_stage_seconds_count", labels] == 4
    assert found["tesserec_stage_seconds_sum", labels] == pytest.approx(9.0045)
    assert list(below.values()) == sorted(below.values()) and len(below) == len(SECONDS) + 1


def test_a_metric_and_its_labels_are_declared() -> None:
    meter = MemoryMeter()
    wrong: list[Any] = [{}, {"stage": "model"}, {"source": "model", "stage": "model"}]
    for labels in wrong:
        with pytest.raises(KeyError):
            meter.add("tesserec_answers_total", **labels)
    with pytest.raises(KeyError):
        meter.add("tesserec_nothing_total")


def test_an_undeclared_value_makes_no_series_of_its_own() -> None:
    meter = MemoryMeter()
    for number in range(100):
        meter.add("tesserec_answers_total", source=f"made up {number}")
    assert meter.values == {("tesserec_answers_total", OTHER): 100}
    meter.set("tesserec_release", 1, release_id="r1", role="serving")
    assert meter.values["tesserec_release", "r1", "serving"] == 1


def test_the_server_hears_of_what_has_changed_alone(family: Any) -> None:
    meter = TritonMeter(family, every_s=3600)
    try:
        begun = len(family.made)
        assert family.made["tesserec_answers_total", "popular"].value == 0
        assert family.made["tesserec_stage_seconds_bucket", "model", "+Inf"].value == 0
        family.calls.clear()
        meter.add("tesserec_answers_total", 3, source="model")
        meter.add("tesserec_answers_total", 2, source="model")
        meter.set("tesserec_release", 1, release_id="r1", role="serving")
        meter.observe("tesserec_stage_seconds", 1.5, stage="model")
        meter.flush()
        assert family.made["tesserec_answers_total", "model"].value == 5
        assert family.made["tesserec_release", "r1", "serving"].value == 1
        assert family.made["tesserec_stage_seconds_bucket", "model", "1"].value == 0
        assert family.made["tesserec_stage_seconds_bucket", "model", "2"].value == 1
        assert len(family.calls) == 6  # one each, and the buckets 2 and +Inf, the sum, the count
        assert len(family.made) == begun + 1
        family.calls.clear()
        meter.flush()
        assert not family.calls
        meter.set("tesserec_release", 0, release_id="r1", role="serving")
        meter.flush()
        assert family.made["tesserec_release", "r1", "serving"].value == 0
    finally:
        meter.close()


def test_a_server_that_refuses_our_numbers_gets_them_later(
    family: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    failures = []

    def broken(*_: Any) -> None:
        failures.append(1)
        raise RuntimeError("no such metric")

    meter = TritonMeter(family, every_s=0.01)
    try:
        with monkeypatch.context() as patch:
            patch.setattr(FakeMetric, "increment", broken)
            meter.add("tesserec_answers_total", source="model")
            _until(lambda: len(failures) > 3)
        _until(lambda: family.made["tesserec_answers_total", "model"].value == 1)
    finally:
        meter.close()
    assert caplog.text.count("does not take our metrics") == 1


def test_observations_of_many_threads_add_up_and_cost_little() -> None:
    meter, rounds = MemoryMeter(), 2000

    def work() -> None:
        for _ in range(rounds):
            meter.observe("tesserec_stage_seconds", 0.01, stage="decode")

    threads = [threading.Thread(target=work) for _ in range(4)]
    began = time.process_time()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    each = (time.process_time() - began) / (4 * rounds)
    assert meter.values["tesserec_stage_seconds", "decode"] == 4 * rounds
    assert each < 50e-6, "less than one call to the server"


def test_the_metrics_are_named_as_prometheus_wants() -> None:
    for name, metric in METRICS.items():
        assert (metric.kind == "counter") == name.endswith("_total"), name
        assert bool(metric.buckets) == (metric.kind == "histogram"), name
        assert list(metric.buckets) == sorted(metric.buckets), name


def _until(done: Any) -> None:
    deadline = time.monotonic() + 10
    while not done():
        assert time.monotonic() < deadline
        time.sleep(0.01)
