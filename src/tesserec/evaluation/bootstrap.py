"""User-bootstrap intervals: users are drawn with replacement, the metric is averaged anew."""

from __future__ import annotations

import numpy as np

LEVEL = 0.95
_CHUNK = 50  # resamples at once; [50, U] counts stay small for any U


def resampled_means(values: np.ndarray, resamples: int, seed: int) -> np.ndarray:
    """Means [resamples, M] of per-user values [U, M]; all columns share each draw of users."""
    users = len(values)
    if users == 0:
        return np.zeros((resamples, values.shape[1]))
    rng = np.random.default_rng(seed)
    out = np.empty((resamples, values.shape[1]))
    for start in range(0, resamples, _CHUNK):
        size = min(_CHUNK, resamples - start)
        counts = np.stack(
            [np.bincount(rng.integers(0, users, users), minlength=users) for _ in range(size)]
        )
        out[start : start + size] = counts @ values / users
    return out


def interval(
    values: np.ndarray, *, resamples: int, seed: int, level: float = LEVEL
) -> tuple[float, float]:
    """Percentile interval of the mean of values [U]; of a difference too, if they are paired."""
    draws = resampled_means(np.asarray(values, dtype=np.float64)[:, None], resamples, seed)[:, 0]
    low, high = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def paired_difference(
    ours: np.ndarray, theirs: np.ndarray, *, resamples: int, seed: int
) -> dict[str, float | list[float]]:
    """Mean of ours - theirs over the same users, with its interval."""
    difference = np.asarray(ours, dtype=np.float64) - np.asarray(theirs, dtype=np.float64)
    low, high = interval(difference, resamples=resamples, seed=seed)
    mean = float(difference.mean()) if len(difference) else 0.0
    return {"difference": mean, "ci": [low, high]}
