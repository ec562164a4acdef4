"""How many codes of the same items differ between two tables."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tesserec.errors import DataError
from tesserec.retokenization.matching import best_pairs, together


@dataclass(frozen=True, kw_only=True)
class Churn:
    """Shares from 0 (nothing changed) to 1, over items that both tables have."""

    items: float  # whose tuple changed
    impressions: float  # the same, each item counting as often as it was shown
    digits: float  # of all digits of all items
    digit_impressions: float  # the same, weighted like `impressions`
    by_digit: list[float]
    prefix: list[float]  # items of which one of the first 1, 2, ... m digits changed
    relabel_free: list[float]  # by digit, after the best renaming of its codes one to one


def churn(old: np.ndarray, new: np.ndarray, weights: np.ndarray | None = None) -> Churn:
    """Churn from codes `old` to `new`, both [N, m]; `weights` [N]: impressions, None: alike.

    Raises:
        DataError: the shapes differ.
    """
    if old.shape != new.shape or old.ndim != 2:
        raise DataError(
            f"codes {list(old.shape)} and {list(new.shape)} can't be compared; give the same items "
            "in the same order, with as many digits"
        )
    changed = old != new
    moved = changed.any(axis=1)
    shown = np.ones(len(old)) if weights is None else np.asarray(weights, dtype=np.float64)
    if len(shown) != len(old):
        raise DataError(f"{len(shown)} weights for {len(old)} items; give one an item")
    return Churn(
        items=_share(moved.sum(), moved.size),
        impressions=_share(shown[moved].sum(), shown.sum()),
        digits=_share(changed.sum(), changed.size),
        digit_impressions=_share((changed.sum(axis=1) * shown).sum(), shown.sum() * old.shape[1]),
        by_digit=[_share(column.sum(), len(column)) for column in changed.T],
        prefix=[_share(c.sum(), len(c)) for c in np.logical_or.accumulate(changed, axis=1).T],
        relabel_free=[_relabel_free(a, b) for a, b in zip(old.T, new.T, strict=True)],
    )


def _share(part: float, whole: float) -> float:
    return float(part / whole) if whole > 0 else 0.0


def _relabel_free(old: np.ndarray, new: np.ndarray) -> float:
    counts = together(new, old, 1 + int(max(old.max(initial=0), new.max(initial=0))))
    kept = counts[np.arange(len(counts)), best_pairs(counts)].sum()
    return _share(len(old) - kept, len(old))
