"""The active item nearest in content: whose code a quarantined item has meanwhile."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

BLOCK = 65_536  # rows of vectors compared at once


class Neighbours:
    """Exact search over the vectors of the active items, read when it is first needed.

    Args:
        vectors: gives float32 [N, D] in row order, memory-mapped if large; rows without a vector
            are NaN.
        codes: [N, m]. active: bool [N].
    """

    def __init__(
        self, vectors: Callable[[], np.ndarray], codes: np.ndarray, active: np.ndarray
    ) -> None:
        self._vectors, self._codes, self._active = vectors, codes, active

    def codes(self, asked: np.ndarray) -> np.ndarray:
        """[q, m]: of each vector's nearest active item; the lowest row among equals."""
        if not len(asked):
            return self._codes[:0]
        return self._codes[self.rows(asked)]

    def rows(self, asked: np.ndarray) -> np.ndarray:
        """int64 [q]"""
        vectors = self._vectors()
        best = np.full(len(asked), np.inf)
        rows = np.zeros(len(asked), np.int64)
        for start in range(0, len(vectors), BLOCK):
            block = np.asarray(vectors[start : start + BLOCK], np.float32)
            far = (block**2).sum(axis=1)[None] - 2 * asked @ block.T
            far[:, ~self._active[start : start + BLOCK]] = np.inf
            far[np.isnan(far)] = np.inf
            at = far.argmin(axis=1)
            near = far[np.arange(len(asked)), at]
            nearer = near < best
            rows[nearer], best[nearer] = start + at[nearer], near[nearer]
        return rows
