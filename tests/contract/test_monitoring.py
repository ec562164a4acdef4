"""infra/monitoring: rules and configuration by promtool, and that pages and panels belong together.

That the server's metrics in panels and alerts exist is asked of a real one in
tests/integration/serving/test_sight.py.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tesserec.retokenization.lags import HOPS
from tesserec.retokenization.textfile import HELP, PREFIX

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "infra" / "monitoring"
PAGE = ROOT / "docs" / "operations.md"


@pytest.fixture(scope="module")
def promtool() -> str:
    found = shutil.which("promtool")
    if found is None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)("no promtool (Debian: prometheus)")
    return found


def rules() -> list[dict[str, Any]]:
    groups = yaml.safe_load((FOLDER / "alerts.yml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


DASHBOARDS = ("grafana-dashboard.json", "grafana-freshness.json")
FRESHNESS = re.compile(rf"{PREFIX}(\w+)(?:{{([^}}]*)}})?")


def panels(name: str) -> list[dict[str, Any]]:
    return json.loads((FOLDER / name).read_text())["panels"]


@pytest.mark.parametrize(
    "words",
    ["check config prometheus.yml", "check rules alerts.yml", "test rules alerts_test.yml"],
)
def test_promtool_agrees(promtool: str, words: str) -> None:
    done = subprocess.run(
        [promtool, *words.split()], cwd=FOLDER, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("name", DASHBOARDS)
def test_promtool_reads_every_panel(promtool: str, tmp_path: Path, name: str) -> None:
    found = [target["expr"] for panel in panels(name) for target in panel["targets"]]
    records = [{"record": f"panel:{n}", "expr": expr} for n, expr in enumerate(found)]
    path = tmp_path / "panels.yml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": records}]}))
    done = subprocess.run([promtool, "check", "rules", path], capture_output=True, text=True)
    assert done.returncode == 0 and f"{len(found)} rules found" in done.stdout, done.stderr


def test_every_alert_is_tested_fires_and_stays_silent() -> None:
    tests = yaml.safe_load((FOLDER / "alerts_test.yml").read_text())["tests"]
    cases = [case for test in tests for case in test["alert_rule_test"]]
    for rule in rules():
        mine = [case["exp_alerts"] for case in cases if case["alertname"] == rule["alert"]]
        assert any(mine) and not all(mine), rule["alert"]


def test_every_alert_says_what_to_do_and_how_urgent_it_is() -> None:
    headings = re.findall(r"^#+ (.+)$", PAGE.read_text(), re.M)
    for rule in rules():
        assert rule["labels"]["severity"] in ("page", "ticket"), rule["alert"]
        page, anchor = rule["annotations"]["runbook"].split("#")
        assert ROOT / page == PAGE and anchor == rule["alert"].lower()
        assert rule["alert"] in headings, f"docs/operations.md has no heading {rule['alert']}"


def test_what_is_asked_of_the_textfile_is_in_it() -> None:
    expressions = [rule["expr"] for rule in rules()]
    expressions += [t["expr"] for panel in panels(DASHBOARDS[1]) for t in panel["targets"]]
    asked = [found for text in expressions for found in FRESHNESS.findall(text)]
    assert {name for name, _ in asked} <= set(HELP) and len(asked) > 15
    for name, labels in asked:
        if labels:
            assert name == "lag_seconds" and 'percentile="95"' in labels
            assert all(hop in HOPS for hop in re.findall(r'hop="(\w+)"', labels))


@pytest.mark.parametrize("name", DASHBOARDS)
def test_panels_lie_beside_each_other(name: str) -> None:
    taken = set()
    for panel in panels(name):
        at = panel["gridPos"]
        cells = {(at["x"] + x, at["y"] + y) for x in range(at["w"]) for y in range(at["h"])}
        assert not cells & taken and max(x for x, _ in cells) < 24, panel["title"]
        taken |= cells
    assert len({panel["id"] for panel in panels(name)}) == len(panels(name))
