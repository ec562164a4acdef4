"""Step: how fresh the served release is, after a re-tokenization, however that ended."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tesserec.artifacts import write_atomic

VERSION = 1
FACTS, PAGE = "freshness.json", "freshness.html"  # in the run's folder of reports/
TEXTFILE = "freshness.prom"  # in <workdir>/retokenization
CHANGES = ("rebuild", "maintain", "extend")  # steps with a `change.json`


def run(workdir: Path, run_id: str) -> Path:
    """Write `<workdir>/reports/<run_id>/freshness.html` and `.json`, and the textfile for
    Prometheus in `<workdir>/retokenization/`; the page's path."""
    from tesserec.report import freshness_page
    from tesserec.retokenization.freshness import freshness
    from tesserec.retokenization.runs import read_records, run_facts
    from tesserec.retokenization.textfile import textfile

    folder = workdir / "reports" / run_id
    folder.mkdir(parents=True, exist_ok=True)
    records = read_records(folder)
    facts = {
        "run": run_facts(workdir, run_id, records),
        **freshness(
            workdir,
            change=_last(workdir, records, CHANGES, "change.json") or {},
            evidence=(_last(workdir, records, ["decide"], "decision.json") or {}).get("evidence"),
            now=int(time.time()),
        ),
    }
    write_atomic(folder / FACTS, json.dumps(facts, indent=1, ensure_ascii=False))
    home = workdir / "retokenization"
    home.mkdir(parents=True, exist_ok=True)
    write_atomic(home / TEXTFILE, textfile(facts))
    return freshness_page(workdir, facts, folder / PAGE)


def _last(
    workdir: Path, records: Sequence[Mapping[str, Any]], steps: Sequence[str], name: str
) -> Any:
    """A JSON file of the last of these steps that has one."""
    from tesserec.retokenization.runs import artifact_json

    found = [artifact_json(workdir, r, name) for r in records if r["step"] in steps]
    return next((one for one in reversed(found) if one), None)
