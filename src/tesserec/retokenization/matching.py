"""Which code of one digit goes with which of another table's."""

from __future__ import annotations

import numpy as np

from tesserec.errors import need


def together(new: np.ndarray, old: np.ndarray, size: int) -> np.ndarray:
    """int64 [size, size]: items that have the row's code in `new` [N] and the column's in `old`."""
    pairs = new.astype(np.int64) * size + old
    return np.bincount(pairs, minlength=size * size).reshape(size, size)


def best_pairs(counts: np.ndarray) -> np.ndarray:
    """int64 [K]: the column of each row of counts [K, K], one to one, with the largest sum."""
    try:
        from scipy.optimize import linear_sum_assignment
    except ModuleNotFoundError:
        raise need("scipy", "train") from None
    # Without overlap any pairing is as good; a code that can keep its name then does.
    same = np.eye(len(counts))
    return linear_sum_assignment(counts * (len(counts) + 1.0) + same, maximize=True)[1]
