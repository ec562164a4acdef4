"""Products whose rows do not depend on the batch: the same item gives the same bits in any batch.

BLAS picks another kernel, and so another order of additions, for another number of rows or of
threads. A code is the nearest of 256 centres: a difference in the last bit can move an item. So the
last steps before the codes use element-wise operations alone, which IEEE 754 fixes to the bit.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

_BLOCK = 64  # rows at once: small enough for the cache


def matmul(x: np.ndarray, w: np.ndarray) -> np.ndarray:
    """`x @ w` with a fixed order of additions; x [N, D], w [D, E] -> [N, E] in w's dtype."""
    out = np.zeros((len(x), w.shape[1]), dtype=w.dtype)
    for start in range(0, len(x), _BLOCK):
        block = np.asarray(x[start : start + _BLOCK], dtype=w.dtype)
        total = out[start : start + _BLOCK]
        product = np.empty_like(total)
        for d in range(w.shape[0]):
            np.multiply(block[:, d, None], w[d], out=product)
            total += product
    return out


def nearest(x: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """Index of the nearest row of `centres` [K, E] for each row of `x` [N, E]; ties: the lowest."""
    out = np.empty(len(x), dtype=np.int64)
    for start, total in _squared_distances(x, centres):
        out[start : start + len(total)] = total.argmin(axis=1)
    return out


def two_nearest(x: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """[N, 2]: squared distances of each row of `x` [N, E] to its two nearest rows of `centres`.

    The second is infinity where there is one centre only.
    """
    out = np.full((len(x), 2), np.inf, dtype=centres.dtype)
    for start, total in _squared_distances(x, centres):
        best = np.sort(np.partition(total, min(1, len(centres) - 1), axis=1)[:, :2], axis=1)
        out[start : start + len(total), : best.shape[1]] = best
    return out


def squared_norms(x: np.ndarray) -> np.ndarray:
    """Sum of squares of each row of `x` [N, E], added in the order of the columns."""
    total = np.zeros(len(x), dtype=x.dtype)
    for column in x.T:
        total += column * column
    return total


def _squared_distances(x: np.ndarray, centres: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """First row and distances [rows, K] of each block; a new array each time."""
    columns = np.ascontiguousarray(centres.T)
    for start in range(0, len(x), _BLOCK):
        block = x[start : start + _BLOCK]
        total = np.zeros((len(block), len(centres)), dtype=centres.dtype)
        difference = np.empty_like(total)
        for d, column in enumerate(columns):
            np.subtract(block[:, d, None], column, out=difference)
            np.multiply(difference, difference, out=difference)
            total += difference
        yield start, total
