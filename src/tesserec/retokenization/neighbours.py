"""The active item nearest in content: whose code a quarantined item has meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

BLOCK = 16_384  # rows of vectors compared at once
QUERIES = 1024  # with so many others: 64 MiB of distances


class Neighbours:
    """Exact search over the vectors of the active items, read when it is first needed.

    Args:
        parts: gives rows int64 [p] (-1: none) and vectors float32 [p, D], memory-mapped if large.
        codes: [N, m]. active: bool [N].
    """

    def __init__(
        self,
        parts: Callable[[], Sequence[tuple[np.ndarray, np.ndarray]]],
        codes: np.ndarray,
        active: np.ndarray,
    ) -> None:
        self._parts, self._codes, self._active = parts, codes, active

    def codes(self, asked: np.ndarray) -> np.ndarray:
        """[q, m]: of each vector's nearest active item; the lowest row among equals."""
        if not len(asked):
            return self._codes[:0]
        return self._codes[self.rows(asked)]

    def rows(self, asked: np.ndarray) -> np.ndarray:
        """int64 [q]"""
        best = np.full(len(asked), np.inf)
        found = np.zeros(len(asked), np.int64)
        for rows, vectors in self._parts():
            usable = np.flatnonzero((rows >= 0) & self._active[rows])
            usable = usable[np.argsort(rows[usable], kind="stable")]
            for start in range(0, len(usable), BLOCK):
                places = usable[start : start + BLOCK]
                block = np.asarray(vectors[places], np.float32)
                for first in range(0, len(asked), QUERIES):
                    part = slice(first, first + QUERIES)
                    far = (block**2).sum(axis=1)[None] - 2 * asked[part] @ block.T
                    at = far.argmin(axis=1)
                    near, theirs = far[np.arange(len(at)), at], rows[places[at]]
                    equal = (near == best[part]) & (theirs < found[part])
                    nearer = (near < best[part]) | equal
                    found[part][nearer], best[part][nearer] = theirs[nearer], near[nearer]
        return found
