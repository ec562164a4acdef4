"""How fresh a release is: what the report, the textfile and the alerts are made of, as JSON.

Every part is there in every run. One that has nothing to say holds `reason`, one that could not be
made `problem`; the others are not touched by it.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from tesserec.errors import ArtifactError
from tesserec.release.manifest import read_release, releases_folder
from tesserec.release.pointer import promoted, read_pointer
from tesserec.retokenization import life
from tesserec.retokenization.code_facts import (
    churn_facts,
    code_facts,
    collision_facts,
    drift_facts,
)
from tesserec.retokenization.drill import rollback_drill
from tesserec.retokenization.findings import base_manifest, exposure_finding
from tesserec.retokenization.history import read_history
from tesserec.retokenization.lags import lags
from tesserec.retokenization.ledger import read_ledger
from tesserec.retokenization.stock import Stock

TOLD = 50  # releases of the timeline
REMEMBERED = 10  # runs of the history
HOURS = 24  # bars of the ages in quarantine; one more holds what is older
log = logging.getLogger(__name__)


def freshness(
    workdir: Path,
    *,
    change: Mapping[str, Any],
    evidence: list[dict[str, Any]] | None,
    now: int,
) -> dict[str, Any]:
    """The facts of the promoted release.

    Args:
        change: `change.json` of what the run made last; {}: it made nothing.
        evidence: of the run's decision; None: it made none.
        now: seconds.
    """
    release_id = promoted(workdir)
    folder = releases_folder(workdir) / str(release_id)
    found: dict[str, Any] = {"release_id": release_id, "at": now}
    parts: dict[str, Callable[[], dict[str, Any]]] = {
        "lag": lambda: lags(workdir, now=now),
        "releases": lambda: {"releases": releases(workdir, release_id), "runs": runs(workdir)},
        "rollback_drill": lambda: rollback_drill(workdir, now=now),
    }
    if release_id is None or not (folder / "manifest.json").is_file():
        found |= {"parent": None, "problem": "no release is promoted that is there"}
        return found | {name: _made(name, make) for name, make in parts.items()}
    stock = Stock(folder, read_release(folder))
    parent = _parent(workdir, stock)
    found["parent"] = stock.manifest["parent"]
    parts |= {
        "churn": lambda: churn_facts(workdir, stock, parent, change, now=now),
        "codes": lambda: code_facts(stock, parent),
        "collisions": lambda: collision_facts(stock),
        "quarantine": lambda: quarantine(stock, now=now),
        "age": lambda: ages(workdir, stock, now=now),
        "drift": lambda: drift_facts(workdir, stock, evidence),
        "exposure": lambda: exposure(workdir, stock, now=now),
    }
    return found | {name: _made(name, make) for name, make in parts.items()}


def quarantine(stock: Stock, *, now: int) -> dict[str, Any]:
    """Size and ages: {size, overdue, oldest_at, median_h, by_hour [25], by_reason}."""
    rows = np.flatnonzero(life.in_status(stock.items, life.QUARANTINED))
    if not len(rows):
        return {"size": 0, "overdue": 0, "oldest_at": None, "reason": "nothing is in quarantine"}
    since = stock.items[life.SINCE].take(rows).to_numpy()
    hours = np.maximum(now - since, 0) / 3600
    reasons = dict.fromkeys(rows.tolist(), "not told by the ledger")  # it was compacted since
    for row, event, why in zip(*_ledger(stock, "row", "event", "reason"), strict=True):
        if event == "quarantined" and row in reasons:
            reasons[row] = why
    return {
        "size": len(rows),
        "overdue": int((hours > life.FORCED_S / 3600).sum()),
        "oldest_at": int(since.min()),
        "median_h": round(float(np.median(hours)), 2),
        "by_hour": np.bincount(np.minimum(hours, HOURS).astype(np.int64), minlength=HOURS + 1)
        .astype(int)
        .tolist(),
        "by_reason": dict(Counter(reasons.values()).most_common()),
    }


def ages(workdir: Path, stock: Stock, *, now: int) -> dict[str, Any]:
    """Moments (s) at which release, model and tokenizer were made, and their ages."""
    born = _seconds(base_manifest(workdir, stock)["created"])
    pointer = read_pointer(workdir) or {}
    moments = {
        "promoted_at": _seconds(pointer["promoted_at"]),
        "release_at": _seconds(stock.manifest["created"]),
        "model_at": max(int(stock.manifest.get("tuned_at", 0)), born),
        "tokenizer_at": born,
    }
    hours = {f"{k.removesuffix('_at')}_h": round((now - v) / 3600, 2) for k, v in moments.items()}
    return {**moments, **hours, "cadence": stock.manifest.get("cadence", "run")}


def exposure(workdir: Path, stock: Stock, *, now: int) -> dict[str, Any]:
    """What new items had of the answers of a day, beside their share of the items."""
    found = exposure_finding(workdir, stock, now=now)
    if found is None:
        return {"reason": "no answer of the last day is logged, or no item came in it"}
    return {"ratio": found.effect, "least": found.null, "text": found.text}


def releases(workdir: Path, served: str | None) -> list[dict[str, Any]]:
    """The newest releases that are there, oldest first."""
    found = []
    for folder in releases_folder(workdir).glob("r*"):
        try:
            manifest = read_release(folder)
        except ArtifactError:
            continue
        found.append(
            {
                "release_id": manifest["release_id"],
                "created_at": _seconds(manifest["created"]),
                "cadence": manifest.get("cadence", "run"),
                "parent": manifest["parent"],
                "promoted": manifest["release_id"] == served,
            }
        )
    return sorted(found, key=lambda one: (one["created_at"], one["release_id"]))[-TOLD:]


def runs(workdir: Path) -> list[dict[str, Any]]:
    """What the last runs did, and what fired in them; oldest first."""
    keys = ("cadence", "release_id", "ok", "fired", "at")
    return [{key: line.get(key) for key in keys} for line in read_history(workdir)[-REMEMBERED:]]


def _made(name: str, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    try:
        return make()
    except Exception as error:  # the other parts must still be told
        log.warning("the freshness of '%s' could not be told", name, exc_info=True)
        return {"problem": f"{type(error).__name__}: {error}"}


def _parent(workdir: Path, stock: Stock) -> Stock | None:
    """The release that this one was made of, with codes; None: it is gone, or there was none."""
    folder = releases_folder(workdir) / str(stock.manifest["parent"])
    if not (folder / "manifest.json").is_file():
        return None
    parent = Stock(folder, read_release(folder))
    return parent if "codes" in parent.manifest["parts"] else None


def _ledger(stock: Stock, *names: str) -> list[list[Any]]:
    ledger = read_ledger(stock.paths("ledger"))
    return [ledger[name].to_pylist() for name in names]


def _seconds(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp())
