"""Facts of freshness -> one HTML file. Each section draws what it has, or says why it has nothing.

The facts are those of `tesserec.retokenization.freshness`, as JSON.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tesserec.report import fresh_plots
from tesserec.report.render import render

log = logging.getLogger(__name__)
HOPS = {
    "listed_encoded": "listed to encoded",
    "encoded_reachable": "encoded to reachable",
    "listed_reachable": "listed to reachable",
}
TESTS = {
    "psi": "other codes are in use",
    "entropy": "fewer codes are in use",
    "ks": "errors are others",
    "mean": "items lie elsewhere",
}
Pictures = dict[str, str]


def freshness_page(workdir: Path, facts: Mapping[str, Any], out: Path) -> Path:
    """Write the page and return its path."""
    makers: dict[str, Callable[[Mapping[str, Any]], Pictures]] = {
        "lag": _lag,
        "churn": _churn,
        "codes": _codes,
        "drift": _drift,
        "quarantine": _quarantine,
        "releases": _releases,
    }
    parts = {name: dict(facts[name]) for name in facts if isinstance(facts[name], Mapping)}
    for name in (*makers, "collisions", "age", "exposure", "rollback_drill"):
        parts.setdefault(name, {"reason": "no release is promoted"})
    pictures: dict[str, Pictures] = {}
    for name, make in makers.items():
        pictures[name] = {}
        if parts[name].get("problem"):
            continue
        try:
            pictures[name] = make(parts[name])
        except Exception as error:  # the other sections must still appear
            log.warning("the section '%s' could not be drawn", name, exc_info=True)
            parts[name] = {"problem": f"{type(error).__name__}: {error}"}
    render(
        "freshness.html.j2",
        out,
        facts=facts,
        run=facts["run"],
        parts=parts,
        pictures=pictures,
        docs=_data_docs(workdir, facts, out),
        hops=HOPS,
        tests=TESTS,
        date=_date,
        span=span,
    )
    return out


def span(seconds: float | None) -> str:
    """For people: `42 s`, `3.5 min`, `2.1 h`, `12 d`."""
    if seconds is None:
        return "–"
    for size, unit in ((86_400 * 2, "d"), (3600, "h"), (60, "min")):
        if abs(seconds) >= size:
            return f"{seconds / {'d': 86_400, 'h': 3600, 'min': 60}[unit]:.3g} {unit}"
    return f"{seconds:.3g} s"


def _lag(lag: Mapping[str, Any]) -> Pictures:
    curves = {
        text: lag["hops"][hop]["curve"] for hop, text in HOPS.items() if lag["hops"][hop]["items"]
    }
    if not curves:
        return {}
    return {"curves": fresh_plots.lag_curves(curves, lag["objectives_s"]["listed_reachable"])}


def _churn(churn: Mapping[str, Any]) -> Pictures:
    if not any(churn.get("by_digit", [])):
        return {}
    budget = churn["budget"].get("items") if churn["unit"] == "digits" else None
    return {"digits": fresh_plots.digit_bars(churn["by_digit"], "share of items", budget)}


def _codes(codes: Mapping[str, Any]) -> Pictures:
    if "after" not in codes:
        return {}
    before = codes["before"] or {}
    labels = {"entropy": "entropy, share of the most", "utilisation": "codes in use"}
    return {
        name: fresh_plots.before_after(before.get(name), codes["after"][name], label)
        for name, label in labels.items()
    }


def _drift(drift: Mapping[str, Any]) -> Pictures:
    return {"bands": fresh_plots.drift_bands(drift["tests"])} if drift.get("tests") else {}


def _quarantine(quarantine: Mapping[str, Any]) -> Pictures:
    return {"ages": fresh_plots.ages(quarantine["by_hour"])} if quarantine.get("size") else {}


def _releases(releases: Mapping[str, Any]) -> Pictures:
    found = releases.get("releases")
    return {"timeline": fresh_plots.timeline(found)} if found else {}


def _data_docs(workdir: Path, facts: Mapping[str, Any], out: Path) -> list[dict[str, str]]:
    """Where the gates of the run tell each expectation, from `out`'s folder."""
    found = []
    for one in facts["run"]["docs"]:
        path = workdir / one["path"]
        if path.is_file():
            found.append({"gate": one["gate"], "href": os.path.relpath(path, out.parent)})
    return found


def _date(seconds: float | None) -> str:
    if seconds is None:
        return "–"
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M UTC")
