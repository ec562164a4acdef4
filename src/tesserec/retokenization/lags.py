"""How long new items take: from their listing to a code, and from there to the answers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from tesserec.artifacts import Artifact, open_artifact
from tesserec.errors import ArtifactError
from tesserec.release.manifest import read_release, releases_folder

WINDOW_S = 86_400  # hand-overs of the last day
QUANTILES = {"p50": 0.5, "p95": 0.95, "p99": 0.99}
HOPS = ("listed_encoded", "encoded_reachable", "listed_reachable")
OBJECTIVES_S = {"listed_encoded": 300, "listed_reachable": 900}  # of the p95
_CURVE = np.linspace(0, 1, 101)


@dataclass(frozen=True)
class HandOver:
    """New items of one `encode` that were promoted; times in seconds."""

    listed: np.ndarray  # float64 [n]; NaN where the source doesn't tell
    parent_created: float | None  # None: the parent is gone
    encoded_at: int  # when the source told of them
    reachable_at: int
    served: bool  # a running server answers with them


def hand_overs(workdir: Path, since: float) -> Iterator[HandOver]:
    """Of new items, promoted after `since`; what was pruned is passed over."""
    for path in sorted((workdir / "artifacts").glob("handover-*")):
        try:
            if path.stat().st_mtime < since:
                continue
            told = open_artifact(path).read_json("handover.json")
            change = _parent(workdir, open_artifact(path))
            if not told["promoted"] or told["at"] < since or change.kind != "extension":
                continue
            survey = _parent(workdir, change)
            new = pq.read_table(survey.file("new.parquet"), columns=["listed_at"])
        except (ArtifactError, OSError):
            continue
        if new.num_rows:
            listed = new["listed_at"].cast("float64").to_numpy()
            encoded_at = int(survey.read_json("summary.json")["at"])
            born = _created(workdir, told["parent"])
            yield HandOver(listed, born, encoded_at, int(told["at"]), bool(told["served"]))


def lags(workdir: Path, *, now: float) -> dict[str, Any]:
    """Seconds of each hop of the last day's new items: {items, p50, p95, p99, curve [101]}.

    An item that was listed before the release that didn't know it yet was told of late by its
    source; its lag since listing says nothing of us and is left out (`left_out`). Every item
    counts in `encoded_reachable`.
    """
    seconds: dict[str, list[np.ndarray]] = {hop: [] for hop in HOPS}
    items = runs = 0
    served = True
    for one in hand_overs(workdir, now - WINDOW_S):
        n, reach = len(one.listed), one.reachable_at - one.encoded_at
        items, runs, served = items + n, runs + 1, served and one.served
        seconds["encoded_reachable"].append(np.full(n, reach, np.float64))
        if one.parent_created is not None:
            ours = (one.listed > one.parent_created) & (one.listed <= one.encoded_at)
            waited = one.encoded_at - one.listed[ours]
            seconds["listed_encoded"].append(waited)
            seconds["listed_reachable"].append(waited + reach)
    hops = {hop: _told(np.concatenate([np.empty(0), *seconds[hop]])) for hop in HOPS}
    return {
        "window_s": WINDOW_S,
        "runs": runs,
        "items": items,
        "left_out": items - hops["listed_reachable"]["items"],
        "served": served,
        "hops": hops,
        "objectives_s": OBJECTIVES_S,
    }


def _told(seconds: np.ndarray) -> dict[str, Any]:
    if not len(seconds):
        return {"items": 0, **dict.fromkeys(QUANTILES), "curve": []}
    values = {name: round(float(np.quantile(seconds, q)), 1) for name, q in QUANTILES.items()}
    curve = np.quantile(seconds, _CURVE).round(1).tolist()
    return {"items": len(seconds), **values, "curve": curve}


def _parent(workdir: Path, artifact: Artifact) -> Artifact:
    return open_artifact(workdir / "artifacts" / artifact.manifest["parents"][0]["id"])


def _created(workdir: Path, release_id: str) -> float | None:
    folder = releases_folder(workdir) / release_id
    if not (folder / "manifest.json").is_file():
        return None
    return datetime.fromisoformat(read_release(folder)["created"]).timestamp()
