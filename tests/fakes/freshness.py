"""A run of `retokenize encode` that promoted 41 new items, one of them in quarantine."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from tesserec.artifacts import Artifact, build
from tesserec.config import change_config
from tesserec.release import promote
from tesserec.retokenization.stock import open_stock
from tesserec.steps import extend, freshness, survey
from tests.fakes.stock import row, source_rows, stock_release, write_source

RUN = "20261125-000000-encode"


def steps_of(workdir: Path, records: list[dict[str, Any]], cadence: str = "encode") -> None:
    """`run.json` and `steps.jsonl` of the run."""
    folder = workdir / "reports" / RUN
    folder.mkdir(parents=True, exist_ok=True)
    run = {"run_id": RUN, "started": "20261125-000000", "arguments": {"cadence": cadence}}
    (folder / "run.json").write_text(json.dumps(run))
    lines = "".join(json.dumps(record) + "\n" for record in records)
    (folder / "steps.jsonl").write_text(lines)


def encoded(workdir: Path, rows: list[dict[str, Any]]) -> Artifact:
    """The extension of the promoted release by these new items."""
    write_source(workdir / "data", [*source_rows(), *rows])
    config = change_config(open_stock(workdir).config, [])
    return extend.run(workdir, config, survey.run(workdir, config))


def surveyed(workdir: Path, made: Artifact) -> Path:
    """The folder of the survey that an extension goes back to."""
    return workdir / "artifacts" / made.manifest["parents"][0]["id"]


def handed(workdir: Path, made: Artifact, *, after_s: int = 30, served: bool = True) -> Artifact:
    """Promote what was encoded, reachable so long after the survey; as `hand_over` leaves it."""
    change = made.read_json("change.json")
    promote(workdir, change["release_id"])
    at = int(json.loads((surveyed(workdir, made) / "summary.json").read_text())["at"]) + after_s
    told = {"promoted": True, "parent": change["parent"], "at": at, "served": served}
    told["release_id"] = change["release_id"]

    def make(folder: Path) -> None:
        (folder / "handover.json").write_text(json.dumps(told))

    params = {"after": after_s}
    return build(workdir, "handover", params=params, parents=[made], version=1, make=make)[0]


def fresh_run(workdir: Path) -> Path:
    """The page of such a run."""
    stock_release(workdir, workdir / "data")
    time.sleep(1.1)  # times are in seconds, and items are listed after the release was made
    new = [row(100 + i, listed_at=int(time.time())) for i in range(40)]
    empty = row(200, title=None, categories=None, price=None)
    made = encoded(workdir, [*new, empty])
    artifacts = {"extend": made, "hand_over": handed(workdir, made)}
    survey_of_items = surveyed(workdir, made)
    pointers = {"survey": {"id": survey_of_items.name, "uri": str(survey_of_items)}}
    pointers |= {step: artifact.pointer() for step, artifact in artifacts.items()}
    end = {"event": "end", "reused": False, "seconds": 1.5}
    steps_of(workdir, [{"step": s, "artifact": p, **end} for s, p in pointers.items()])
    return freshness.run(workdir, RUN)
