"""Products whose rows do not depend on the batch: the same item gives the same bits in any batch.

BLAS picks another kernel, and so another order of additions, for another number of rows or of
threads. A code is the nearest of 256 centres: a difference in the last bit can move an item. So the
last steps before the codes use element-wise operations alone, which IEEE 754 fixes to the bit.
"""

from __future__ import annotations

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
    columns = np.ascontiguousarray(centres.T)
    for start in range(0, len(x), _BLOCK):
        block = x[start : start + _BLOCK]
        total = np.zeros((len(block), len(centres)), dtype=centres.dtype)
        difference = np.empty_like(total)
        for d, column in enumerate(columns):
            np.subtract(block[:, d, None], column, out=difference)
            np.multiply(difference, difference, out=difference)
            total += difference
        out[start : start + _BLOCK] = total.argmin(axis=1)
    return out
