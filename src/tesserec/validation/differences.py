"""The metric gate's frames: a candidate against popularity, or against the promoted release.

Both are scored on the same users, and an interval is that of the paired difference: users are drawn
again with replacement, and a draw takes both scores of a user. Ranks start at 1; 0 means not found.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from tesserec.evaluation.bootstrap import LEVEL, paired_difference, resampled_means
from tesserec.evaluation.metrics import ndcg, recall
from tesserec.evaluation.slices import FREQUENCY_BINS, frequency_bin

if TYPE_CHECKING:
    import pandas as pd

LENGTH_BINS = (("1-4", 4), ("5-9", 9), ("10-19", 19), ("20-49", 49), ("50+", None))
MIN_SLICE_USERS = 50  # drawing again from fewer says little about chance
CUTOFF = 10


def against_popularity(
    model: np.ndarray, popularity: np.ndarray, *, resamples: int, seed: int
) -> pd.DataFrame:
    """One row for the suite of that name: NDCG@10 from kept ranks [U] of both."""
    ours, theirs = ndcg(model, CUTOFF), ndcg(popularity, CUTOFF)
    found = paired_difference(ours, theirs, resamples=resamples, seed=seed)
    return _frame(
        users=len(ours),
        model=_mean(ours),
        popularity=_mean(theirs),
        difference=found["difference"],
        interval=found["ci"],
    )


def against_promoted(
    model: np.ndarray, promoted: np.ndarray, *, resamples: int, seed: int
) -> pd.DataFrame:
    """One row for the suite of that name: Recall@10 from kept ranks [U] of both."""
    ours, theirs = recall(model, CUTOFF), recall(promoted, CUTOFF)
    return _frame(
        users=len(ours),
        model=_mean(ours),
        promoted=_mean(theirs),
        relative=relative(_mean(ours), _mean(theirs)),
        interval=_relative_interval(ours, theirs, resamples, seed),
    )


def slices(
    model: np.ndarray,
    promoted: np.ndarray,
    frequency: np.ndarray,
    history_length: np.ndarray,
    *,
    resamples: int,
    seed: int,
) -> pd.DataFrame:
    """One row for each slice that has users: Recall@10 from kept ranks [U] of both.

    `judged` is the relative change, or 0 where it may be chance: the slice is small, or the
    interval reaches 0. A dozen slices of some hits each would otherwise refuse equal models.
    """
    import pandas as pd

    ours, theirs = recall(model, CUTOFF), recall(promoted, CUTOFF)
    rows = []
    for by, name, chosen in _slices(frequency, history_length):
        users = int(chosen.sum())
        if not users:
            continue
        a, b = _mean(ours[chosen]), _mean(theirs[chosen])
        change = relative(a, b)
        low, high = _relative_interval(ours[chosen], theirs[chosen], resamples, seed)
        certain = users >= MIN_SLICE_USERS and high < 0
        rows.append(
            {
                "by": by,
                "bin": name,
                "users": users,
                "model": a,
                "promoted": b,
                "relative": change,
                "low": low,
                "high": high,
                "judged": change if certain else 0.0,
            }
        )
    return pd.DataFrame(rows)


def relative(ours: float, theirs: float) -> float:
    """(ours - theirs) / theirs; nothing can be lost against zero."""
    return (ours - theirs) / theirs if theirs > 0 else 0.0


def _relative_interval(
    ours: np.ndarray, theirs: np.ndarray, resamples: int, seed: int
) -> tuple[float, float]:
    draws = resampled_means(np.stack([ours, theirs], axis=1), resamples, seed)
    changes = [relative(a, b) for a, b in draws.tolist()]
    low, high = np.quantile(changes, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def _slices(
    frequency: np.ndarray, history_length: np.ndarray
) -> Iterator[tuple[str, str, np.ndarray]]:
    where = frequency_bin(frequency)
    for index, (name, _) in enumerate(FREQUENCY_BINS):
        yield "target_training_frequency", name, where == index
    bounds = [upper for _, upper in LENGTH_BINS if upper is not None]
    where = np.searchsorted(bounds, history_length, side="left")
    for index, (name, _) in enumerate(LENGTH_BINS):
        yield "history_length", name, where == index


def _frame(interval: Any, **columns: Any) -> pd.DataFrame:
    import pandas as pd

    low, high = interval
    # No user means no knowledge; null makes the gate say no.
    known = columns["users"] > 0
    return pd.DataFrame(
        [{**columns, "low": low if known else None, "high": high if known else None}]
    )


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if len(values) else float("nan")
