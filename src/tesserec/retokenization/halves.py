"""Two halves of a cloud of vectors."""

from __future__ import annotations

import numpy as np

from tesserec.encoders.rowwise import nearest

_PASSES = 10


def halves(x: np.ndarray) -> np.ndarray | None:
    """bool [n]: the smaller of two clusters of `x` [n, E], by 2-means from a cut across the longest
    direction. None where nothing tells the vectors apart.
    """
    from threadpoolctl import threadpool_limits

    if len(x) < 2:
        return None
    centred = x.astype(np.float64) - x.mean(axis=0, dtype=np.float64)
    with threadpool_limits(1):
        longest = np.linalg.eigh(centred.T @ centred)[1][:, -1]
        upper = centred @ longest > 0
    for _ in range(_PASSES):
        if upper.all() or not upper.any():
            return None
        means = np.stack([centred[~upper].mean(axis=0), centred[upper].mean(axis=0)])
        if (means[0] == means[1]).all():
            return None
        nearer = nearest(centred, means).astype(bool)
        if (nearer == upper).all():
            break
        upper = nearer
    return upper if 2 * upper.sum() <= len(x) else ~upper
