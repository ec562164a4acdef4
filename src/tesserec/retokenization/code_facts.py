"""What a report of freshness says of codes: churn, use by digit, collisions, drift."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tesserec.retokenization import decision, life
from tesserec.retokenization.churn import churn
from tesserec.retokenization.drift import FLOORS
from tesserec.retokenization.findings import drift_findings
from tesserec.retokenization.health import health, told
from tesserec.retokenization.impressions import EXPOSURES, impressions
from tesserec.retokenization.stock import Stock
from tesserec.tokenizers.quality import usage

FIRST = "it is the first release: there is none to compare it with"


def churn_facts(
    workdir: Path, stock: Stock, parent: Stock | None, change: Mapping[str, Any], *, now: int
) -> dict[str, Any]:
    """Codes of items that were active in the parent; `change` made the release (`change.json`).

    One in quarantine does not count: it had a neighbour's code, and none of its own.
    """
    if parent is None:
        return {"reason": FIRST}
    mine, theirs = _shared(stock, parent)
    row_of = {item: at for at, item in enumerate(stock.item_ids[row] for row in mine.tolist())}
    shown, counted = impressions(workdir, row_of, None, now=now)
    found = churn(parent.codes[theirs], stock.codes[mine], shown)
    weighed = change.get("churn", {}) if change.get("release_id") == stock.release_id else {}
    share, digit_share = found.impressions, found.digit_impressions
    if counted != EXPOSURES and "digit_impressions" in weighed:  # it also looked at interactions
        share, digit_share = weighed["impressions"], weighed["digit_impressions"]
        counted = change["impressions_from"]
    hierarchical = bool(stock.tokenizer.hierarchical)
    return {
        "parent": parent.release_id,
        "compared": len(mine),
        "moved": round(found.items * len(mine)),
        "items": found.items,
        "impressions": share,
        "digits": found.digits,
        "digit_impressions": digit_share,
        "impressions_from": counted,
        "by_digit": found.by_digit,
        "unit": "items" if hierarchical else "digits",
        "budget": dict(stock.config.get("retokenization", {}).get("budget", {})),
    }


def code_facts(stock: Stock, parent: Stock | None) -> dict[str, Any]:
    """Use of each digit's codes by the items that are shown, before and after."""
    size = int(stock.tokenizer.codebook_size)
    now = usage(_active(stock), size)
    before = usage(_active(parent), size) if parent is not None else None
    names = {"utilisation": "utilisation", "entropy": "normalised_entropy"}
    return {
        "items": len(_active(stock)),
        "digits": stock.codes.shape[1],
        "codebook_size": size,
        "after": {name: [row[key] for row in now] for name, key in names.items()},
        "before": before and {name: [row[key] for row in before] for name, key in names.items()},
        "health": {
            "after": told(health(_active(stock), size, None)),
            "before": parent and told(health(_active(parent), size, None)),
        },
    }


def collision_facts(stock: Stock) -> dict[str, Any]:
    """Items whose tuple an older item has: of those that came since the codebook, and of the rest.

    What is truly novel collides less than the rest, so a low share of the new is no sign of health.
    """
    shown = life.in_status(stock.items, life.ACTIVE)
    new = shown & np.asarray(stock.items[life.ENCODED_AT].is_valid().to_numpy(), bool)
    old = shown & ~new
    if not new.any():
        return {"reason": "no item came since the codebook was made"}
    tuples = np.ascontiguousarray(stock.codes)
    tuples = tuples.view(np.dtype((np.void, tuples.itemsize * tuples.shape[1]))).ravel()
    known, at, counts = np.unique(tuples[old], return_inverse=True, return_counts=True)
    return {
        "new_items": int(new.sum()),
        "old_items": int(old.sum()),
        "new": float(np.isin(tuples[new], known).mean()),
        "old": float((counts[at.ravel()] > 1).mean()) if old.any() else 0.0,
    }


def drift_facts(
    workdir: Path, stock: Stock, evidence: list[dict[str, Any]] | None
) -> dict[str, Any]:
    """The tests of drift: those of this run's decision (`evidence`), else made now.

    Now: of the items that were encoded since the codebook was made.
    """
    if evidence is None:
        width = stock.reference.tokenizer.dim if stock.reference else 0
        nothing = np.zeros((0, width), np.float32)
        evidence = [vars(f) for f in drift_findings(workdir, stock, nothing, seed=0)]
    named = {e["test"]: e for e in evidence}
    head = named[decision.DRIFT]
    prefix = f"{decision.DRIFT}_"
    tests = [
        {
            "test": e["test"].removeprefix(prefix),
            "p": e["p"],
            "effect": e["effect"],
            "null": e["null"],
            "floor": FLOORS.get(e["test"].removeprefix(prefix)),
        }
        for e in evidence
        if e["test"].startswith(prefix)
    ]
    folk = named["folk_psi"]["effect"] if "folk_psi" in named else None
    return {"fires": head["fires"], "text": head["text"], "tests": tests, "folk_psi": folk}


def _shared(stock: Stock, parent: Stock) -> tuple[np.ndarray, np.ndarray]:
    """int64 rows, in `stock` and in `parent`, of the items that were active there."""
    row_of = {item: row for row, item in enumerate(parent.item_ids)}
    theirs = np.array([row_of.get(item, -1) for item in stock.item_ids], np.int64)
    theirs[(theirs >= 0) & ~life.in_status(parent.items, life.ACTIVE)[theirs]] = -1
    mine = np.flatnonzero(theirs >= 0)
    return mine, theirs[mine]


def _active(stock: Stock) -> np.ndarray:
    return stock.codes[life.in_status(stock.items, life.ACTIVE)]
