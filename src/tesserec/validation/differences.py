"""The metric gate's frames: a candidate against popularity, or against the promoted release.

Both are scored on the same users, so the interval is that of the paired difference: users are
drawn again with replacement, and a draw takes both scores of a user (Efron, Tibshirani 1993, 13.3).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import pandas as pd

FREQUENCY_BINS = ((0, 0, "0"), (1, 5, "1-5"), (6, 10, "6-10"), (11, 15, "11-15"), (16, 20, "16-20"))
LENGTH_BINS = ((0, 4, "0-4"), (5, 9, "5-9"), (10, 19, "10-19"), (20, 49, "20-49"))
MIN_SLICE_USERS = 50  # below it one user more or less moves a slice by more than the bound


def recall(ranks: np.ndarray, k: int = 10) -> np.ndarray:
    """0 or 1 a user; `ranks` start at 1, 0 means not found."""
    return ((ranks >= 1) & (ranks <= k)).astype(np.float64)


def ndcg(ranks: np.ndarray, k: int = 10) -> np.ndarray:
    """1 / log2(rank + 1) a user, for one target each; 0 below rank k."""
    return recall(ranks, k) / np.log2(np.maximum(ranks, 1) + 1)


def paired_interval(
    ours: np.ndarray,
    theirs: np.ndarray,
    statistic: Callable[[float, float], float],
    *,
    resamples: int,
    rng: np.random.Generator,
) -> tuple[float, float]:
    """95 % percentile interval of `statistic(mean of ours [U], mean of theirs [U])` over users."""
    users = len(ours)
    if users == 0:
        return float("nan"), float("nan")
    values = np.empty(resamples)
    for number in range(resamples):
        drawn = rng.integers(users, size=users)
        values[number] = statistic(float(ours[drawn].mean()), float(theirs[drawn].mean()))
    low, high = np.percentile(values, [2.5, 97.5])
    return float(low), float(high)


def relative(ours: float, theirs: float) -> float:
    """(ours - theirs) / theirs; nothing can be lost against zero."""
    return (ours - theirs) / theirs if theirs > 0 else 0.0


def against_popularity(
    model: np.ndarray, popularity: np.ndarray, *, resamples: int, seed: int
) -> pd.DataFrame:
    """One row for the suite of that name, from kept ranks [U] of both."""
    import pandas as pd

    ours, theirs = ndcg(model), ndcg(popularity)
    rng = np.random.default_rng(seed)
    low, high = paired_interval(ours, theirs, lambda a, b: a - b, resamples=resamples, rng=rng)
    row = {
        "users": len(ours),
        "model": _mean(ours),
        "popularity": _mean(theirs),
        "difference": _mean(ours) - _mean(theirs),
        "low": low,
        "high": high,
    }
    return pd.DataFrame([row])


def against_promoted(
    model: np.ndarray, promoted: np.ndarray, *, resamples: int, seed: int
) -> pd.DataFrame:
    """One row for the suite of that name, from kept ranks [U] of both."""
    import pandas as pd

    ours, theirs = recall(model), recall(promoted)
    rng = np.random.default_rng(seed)
    low, high = paired_interval(ours, theirs, relative, resamples=resamples, rng=rng)
    row = {
        "users": len(ours),
        "model": _mean(ours),
        "promoted": _mean(theirs),
        "relative": relative(_mean(ours), _mean(theirs)),
        "low": low,
        "high": high,
    }
    return pd.DataFrame([row])


def slices(model: np.ndarray, promoted: np.ndarray, by: dict[str, np.ndarray]) -> pd.DataFrame:
    """One row a slice, from kept ranks [U] and for each cut of the users a number [U].

    `by` may hold `target_frequency` and `history_length`.
    """
    import pandas as pd

    ours, theirs = recall(model), recall(promoted)
    bins = {"target_frequency": FREQUENCY_BINS, "history_length": LENGTH_BINS}
    rows = []
    for name, values in by.items():
        for label, chosen in _members(values, bins[name]):
            users = int(chosen.sum())
            if not users:
                continue
            a, b = float(ours[chosen].mean()), float(theirs[chosen].mean())
            loss = relative(a, b)
            rows.append(
                {
                    "by": name,
                    "bin": label,
                    "users": users,
                    "model": a,
                    "promoted": b,
                    "relative": loss,
                    "judged": loss if users >= MIN_SLICE_USERS else 0.0,
                }
            )
    columns = ["by", "bin", "users", "model", "promoted", "relative", "judged"]
    return pd.DataFrame(rows, columns=pd.Index(columns))


def _members(
    values: np.ndarray, bins: Sequence[tuple[int, int, str]]
) -> list[tuple[str, np.ndarray]]:
    named = [(label, (values >= low) & (values <= high)) for low, high, label in bins]
    return [*named, (f"{bins[-1][1] + 1}+", values > bins[-1][1])]


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if len(values) else float("nan")
