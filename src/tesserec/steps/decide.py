"""Step `decide`: which cadence is due, with the evidence."""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tesserec.artifacts import Artifact, build, discard, write_atomic
from tesserec.config import RunConfig, to_dict
from tesserec.steps.survey import read_survey

if TYPE_CHECKING:
    from tesserec.retokenization.stock import Stock

VERSION = 1


def run(workdir: Path, config: RunConfig, survey: Artifact) -> Artifact:
    """The artefact `decision`: `decision.json` {due, reasons, evidence: [{test, p, effect, null,
    fires, text}], waiting, parent, at}. Each run is remembered: drift acts at the second time.
    """
    from tesserec.retokenization.history import read_history, remember
    from tesserec.retokenization.stock import open_stock

    stock = open_stock(workdir)
    now = int(time.time())
    params = {"hour": now // 3600, "release": stock.release_id, "runs": len(read_history(workdir))}

    def make(folder: Path) -> None:
        found = _decide(workdir, config, stock, survey, now)
        write_atomic(folder / "decision.json", json.dumps(found, indent=1))

    artifact, reused = build(
        workdir, "decision", params=params, parents=[survey], version=VERSION, make=make
    )
    if reused and not read_history(workdir):
        discard(artifact)
        artifact, _ = build(
            workdir, "decision", params=params, parents=[survey], version=VERSION, make=make
        )
    told = artifact.read_json("decision.json")
    fired = [e["test"] for e in told["evidence"] if e["fires"]]
    line = {"cadence": "decide", "release_id": told["parent"], "parent": told["parent"], "ok": True}
    remember(workdir, {**line, "fired": fired, "due": told["due"], "at": told["at"]})
    return artifact


def _decide(
    workdir: Path, config: RunConfig, stock: Stock, survey: Artifact, now: int
) -> dict[str, Any]:
    from tesserec.artifacts import sha256_of
    from tesserec.data.ingest import open_source
    from tesserec.data.sources.eventlog import event_log
    from tesserec.retokenization import decision, findings, life
    from tesserec.retokenization.history import read_history

    read = read_survey(survey)
    new = read.seen[: read.listing.new.num_rows]
    log = event_log(workdir)
    files = [[p.name, sha256_of(p)] for p in open_source(config.data, config.seed).files()]
    found = [
        findings.encoder_finding(stock, to_dict(config)),
        *findings.drift_findings(workdir, stock, new, seed=config.seed),
        findings.health_finding(stock),
        findings.edits_finding(stock),
        *findings.age_findings(workdir, stock, files, log.sha256 if log.bytes else None, now=now),
    ]
    exposure = findings.exposure_finding(workdir, stock, now=now)
    found += [exposure] if exposure else []
    gone = life.in_status(stock.items, life.RETIRED) | life.in_status(stock.items, life.PURGED)
    seen = read.listing.seen
    lost = int((~seen & ~gone).sum()) if read.summary["whole"] else 0
    back = int((seen & gone).sum())
    waiting = {
        "new": read.listing.new.num_rows,
        "changed": read.listing.changed.num_rows,
        "gone": lost,
        "back": back,
        "overdue": len(life.overdue(stock.items, now)),
    }
    verdict = decision.decide(found, sum(waiting.values()), read_history(workdir))
    return {
        "due": verdict.due,
        "reasons": verdict.reasons,
        "evidence": [asdict(f) for f in found],
        "waiting": waiting,
        "parent": stock.release_id,
        "at": now,
    }
