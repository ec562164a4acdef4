"""The dashboard as a picture: a real Triton under load, a real Prometheus, the panels' own queries.

    python benchmarks/dashboard.py WORKDIR [SECONDS]     WORKDIR: with a promoted release

Grafana is in no distribution that we test on, so the panels of
infra/monitoring/grafana-dashboard.json are drawn by matplotlib: each panel's expressions go to
Prometheus as Grafana would send them. Writes docs/img/dashboard.png. The load: four callers,
known and unknown users, rules, a few bad requests; twice as many callers in the middle.
Ends with 1 if an expression has no answer.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import matplotlib as mpl
import yaml

mpl.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
from serving.shops import users_of

from tesserec.config import ExposureSettings, ServeSettings
from tesserec.errors import RequestError, ServingError
from tesserec.serving import triton
from tesserec.serving.client import Recommender
from tesserec.serving.ports import reserve

ROOT = Path(__file__).resolve().parents[1]
MONITORING = ROOT / "infra" / "monitoring"
PICTURE = ROOT / "docs" / "img" / "dashboard.png"
HOST, COLUMNS = "127.0.0.1", 3
SCRAPE_S, WINDOW_S = 1, 10  # the picture shows minutes: Grafana's windows of 1 m would blur it
CALLERS, PAUSE_S, BAD_EVERY = 4, 0.005, 50
RULES = [{}, {}, {"quota_new": 2}, {"allow": ["price<=20"]}, {"diversity": 2}]
LOCAL = urllib.request.build_opener(urllib.request.ProxyHandler({}))
UNITS = {"s": 1.0}  # in seconds


def main(workdir: Path, seconds: float) -> int:
    settings = ServeSettings(exposure=ExposureSettings(share=0.5, flush_s=5))
    with (
        triton.start(workdir, ROOT, settings=settings, publish=False) as server,
        prometheus(server.info["metrics"]) as url,
    ):
        began = time.time()
        load(server.grpc, users_of(workdir, 200), seconds)
        time.sleep(2 * SCRAPE_S)
        drawn = draw(url, began, time.time())
    print(f"{drawn['answered']} of {drawn['asked']} expressions have an answer: {PICTURE}")
    for title in drawn["empty"]:
        print(f"no answer: {title}")
    return int(bool(drawn["empty"]))


@contextmanager
def prometheus(metrics: str) -> Iterator[str]:
    """A Prometheus with our configuration, but for the address and how often it asks."""
    config = yaml.safe_load((MONITORING / "prometheus.yml").read_text())
    config["global"] = {"scrape_interval": f"{SCRAPE_S}s", "evaluation_interval": "5s"}
    config["scrape_configs"][0]["static_configs"] = [{"targets": [metrics]}]
    config["rule_files"] = [str(MONITORING / name) for name in config["rule_files"]]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "prometheus.yml"
        path.write_text(yaml.safe_dump(config))
        with reserve([(HOST, 0)]) as (port,):
            pass
        command = ["prometheus", f"--config.file={path}", f"--storage.tsdb.path={folder}/data"]
        command += [f"--web.listen-address={HOST}:{port}", "--log.level=warn"]
        process = subprocess.Popen(command, cwd=folder)
        try:
            yield f"http://{HOST}:{port}"
        finally:
            process.terminate()
            process.wait(20)


def load(url: str, users: list[str], seconds: float) -> None:
    """Callers that ask, pause and ask again; twice as many in the middle third."""
    began = time.monotonic()

    def call(number: int) -> None:
        rng = np.random.default_rng(number)
        early, late = (0.0, 1.0) if number < CALLERS else (1 / 3, 2 / 3)
        time.sleep(early * seconds)
        with Recommender(url, timeout_s=10) as client:
            while time.monotonic() - began < late * seconds:
                user = str(rng.choice(users)) if rng.random() < 0.9 else "nobody"
                k = 0 if rng.random() < 1 / BAD_EVERY else 10
                with suppress(RequestError, ServingError):  # counted by the server
                    client.recommend(user_id=user, k=k, rules=RULES[rng.integers(len(RULES))])
                time.sleep(rng.exponential(PAUSE_S))

    threads = [threading.Thread(target=call, args=(number,)) for number in range(2 * CALLERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def draw(url: str, began: float, ended: float) -> dict[str, Any]:
    panels = json.loads((MONITORING / "grafana-dashboard.json").read_text())["panels"]
    rows = -(-len(panels) // COLUMNS)
    figure, axes = plt.subplots(rows, COLUMNS, figsize=(15, 2.7 * rows), layout="constrained")
    found: dict[str, Any] = {"asked": 0, "answered": 0, "empty": []}
    for axis, panel in zip(axes.flat, panels, strict=False):
        for target in panel["targets"]:
            series = query(url, target["expr"], began, ended)
            found["asked"] += 1
            found["answered"] += bool(series)
            if not series:
                found["empty"].append(f"{panel['title']}: {target['expr']}")
            for one in series:
                name = target["legendFormat"]
                for label, value in one["metric"].items():
                    name = name.replace("{{" + label + "}}", value)
                times, values = np.array(one["values"], float).T
                unit = UNITS.get(panel["fieldConfig"]["defaults"]["unit"], 0)
                axis.plot(times - began, values * (1000 * unit or 1), label=name, lw=1.4)
        unit = panel["fieldConfig"]["defaults"]["unit"]
        axis.set_title(panel["title"], fontsize=10, loc="left")
        axis.set_ylabel("ms" if unit in UNITS else {"percentunit": "share"}.get(unit, unit))
        axis.set_ylim(0, 1.4 * (axis.get_ylim()[1] or 1))  # room for the legend
        axis.grid(alpha=0.3)
        if axis.lines:
            axis.legend(fontsize=7, loc="upper left", ncols=2)
    for axis in axes.flat[len(panels) :]:
        axis.axis("off")
    for axis in axes[-1]:
        axis.set_xlabel("seconds")
    PICTURE.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(PICTURE, dpi=80)
    return found


def query(url: str, expression: str, began: float, ended: float) -> list[dict[str, Any]]:
    """Series of one expression of a panel, its window made fit for minutes."""
    expression = expression.replace("[1m]", f"[{WINDOW_S}s]")
    words = {"query": expression, "start": began, "end": ended, "step": SCRAPE_S}
    with LOCAL.open(f"{url}/api/v1/query_range?{urllib.parse.urlencode(words)}") as reply:
        return json.load(reply)["data"]["result"]


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), float(sys.argv[2]) if len(sys.argv) > 2 else 90.0))
