"""Recall by slices of the test users, for the model and its baselines side by side."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from tesserec.models import MODELS
from tesserec.report import plots

RANK = "_rank_kept"
NAMES = {name: place.rpartition(":")[2] for name, place in MODELS.items()}
NAMES |= {"popularity": "Popularity", "item_knn": "Item-kNN"}
LENGTHS = (("0-4", 4), ("5-9", 9), ("10-19", 19), ("20-49", 49), ("50+", None))


def slices_of_users(path: Path, model: str) -> list[dict[str, Any]]:
    """A table and a picture for each way of slicing: Recall@10 of every ranker, seen items kept.

    `path` is the evaluation's `per_user.parquet`.
    """
    import pyarrow.parquet as pq

    from tesserec.evaluation.metrics import recall
    from tesserec.evaluation.slices import FREQUENCY_BINS

    table = pq.read_table(path)
    names = [c.removesuffix(RANK) for c in table.column_names if c.endswith(RANK)]
    names.sort(key=lambda name: name != model)  # the model first, then the baselines as written
    hits: dict[str, np.ndarray] = {
        NAMES.get(n, str(n)): recall(table[n + RANK].to_numpy(), 10) for n in names
    }
    ways = (
        ("training frequency of the target", "target_freq", FREQUENCY_BINS),
        ("length of the history", "history_length", LENGTHS),
    )
    return [
        _slice(by, table[column].to_numpy(), bins, hits)
        for by, column, bins in ways
        if column in table.column_names
    ]


def _slice(
    by: str,
    values: np.ndarray,
    bins: tuple[tuple[str, int | None], ...],
    hits: dict[str, np.ndarray],
) -> dict[str, Any]:
    bounds = [upper for _, upper in bins if upper is not None]
    where = np.searchsorted(bounds, values, side="left")
    rows = []
    for index, (name, _) in enumerate(bins):
        chosen = where == index
        if chosen.any():
            recalls = [float(h[chosen].mean()) for h in hits.values()]
            rows.append({"bin": name, "users": int(chosen.sum()), "recalls": recalls})
    series = {name: [r["recalls"][i] for r in rows] for i, name in enumerate(hits)}
    picture = plots.bars([r["bin"] for r in rows], series, "Recall@10", by)
    return {"by": by, "names": list(hits), "rows": rows, "uri": picture}
