"""Recall and NDCG of ranks: one relevant item a user, its 1-based rank; 0 means never shown."""

from __future__ import annotations

import numpy as np

CUTOFFS = (5, 10, 50)
NAMES = tuple(f"{metric}@{k}" for metric in ("recall", "ndcg") for k in CUTOFFS)


def recall(ranks: np.ndarray, k: int) -> np.ndarray:
    """float64 [U]: 1 where the item stands among the first k."""
    return ((ranks >= 1) & (ranks <= k)).astype(np.float64)


def ndcg(ranks: np.ndarray, k: int) -> np.ndarray:
    """float64 [U]: 1 / log2(rank + 1) where the rank is at most k, else 0."""
    gain = 1.0 / np.log2(np.maximum(ranks, 1) + 1.0)
    return np.where((ranks >= 1) & (ranks <= k), gain, 0.0)


def per_user(ranks: np.ndarray) -> np.ndarray:
    """float64 [U, 6]: the columns of NAMES."""
    columns = [f(ranks, k) for f in (recall, ndcg) for k in CUTOFFS]
    return np.stack(columns, axis=1)


def means(ranks: np.ndarray) -> dict[str, float]:
    """Mean of each metric over users; 0 where there is no user."""
    values = per_user(ranks).mean(axis=0) if len(ranks) else np.zeros(len(NAMES))
    return dict(zip(NAMES, values.tolist(), strict=True))
