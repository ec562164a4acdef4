"""How often each item was shown lately: what a moved code costs (docs/retokenization.md)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from tesserec.data.compute import pc
from tesserec.data.exposures import read_exposures

DAYS = 7
EXPOSURES, INTERACTIONS, NOTHING = "exposures", "interactions", "items alike"


def impressions(
    workdir: Path,
    row_of: Mapping[str, int],
    events: tuple[np.ndarray, np.ndarray] | None,
    *,
    now: int,
) -> tuple[np.ndarray, str]:
    """Weights float64 [N] of the items, and what they were counted from.

    That is the exposure log of the last seven days; without one, the interactions of the last seven
    days of the data; without either, every item counts once.

    Args:
        events: item rows int64 and times (s) of all interactions, or None where they have no times.
        now: seconds; the log's seven days end here.
    """
    counts = np.zeros(len(row_of), np.float64)
    for batch in read_exposures(workdir, since_ms=(now - DAYS * 86_400) * 1000):
        share = batch.column("share").to_numpy()
        lists = batch.column("item_ids")
        weights = np.repeat(1.0 / np.maximum(share, 1e-6), pc.list_value_length(lists).to_numpy())
        shown = [row_of.get(item, -1) for item in lists.flatten().to_pylist()]
        rows = np.array(shown, np.int64)
        np.add.at(counts, rows[rows >= 0], weights[rows >= 0])
    if counts.any():
        return counts, EXPOSURES
    if events is not None and len(events[0]):
        rows, times = events
        late = (times > times.max() - DAYS * 86_400) & (rows >= 0)
        np.add.at(counts, rows[late], 1.0)
        return counts, INTERACTIONS
    return np.ones(len(row_of), np.float64), NOTHING
