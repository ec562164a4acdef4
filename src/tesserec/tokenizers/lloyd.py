"""One codebook: Lloyd passes from where it stands, and how clearly a code was chosen."""

from __future__ import annotations

import numpy as np

_BLOCK = 8192  # rows whose distances are held at once


def lloyd(x: np.ndarray, centres: np.ndarray, passes: int) -> np.ndarray:
    """Centres [K, E] after `passes` passes over `x` [N, E]; one without a member keeps its place.

    One thread, so that equal arguments give equal bits on one machine.
    """
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1):
        for _ in range(passes):
            centres = means(x, _nearest(x, centres), centres)
    return centres


def means(x: np.ndarray, codes: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """The mean of each code's rows of `x` [N, E]; a code without any keeps its row of `centres`."""
    counts = np.bincount(codes, minlength=len(centres))
    out = centres.copy()
    used = counts > 0
    for e in range(x.shape[1]):
        sums = np.bincount(codes, weights=x[:, e], minlength=len(centres))  # float64, row by row
        out[used, e] = sums[used] / counts[used]
    return out


def margin(two: np.ndarray) -> np.ndarray:
    """(d2 - d1) / d2 of squared distances [N, 2]; 0 on two centres at once, 1 with one centre."""
    near, far = np.sqrt(two[:, 0]), np.sqrt(two[:, 1])
    out = np.ones_like(near)
    some = np.isfinite(far)
    out[some] = 0
    some &= far > 0
    out[some] = (far[some] - near[some]) / far[some]
    return out


def _nearest(x: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """By matrix product: quicker than `rowwise.nearest`, and not the same to the last bit."""
    norms = (centres * centres).sum(axis=1)
    out = np.empty(len(x), dtype=np.int64)
    for start in range(0, len(x), _BLOCK):
        block = x[start : start + _BLOCK]
        out[start : start + len(block)] = (norms - 2 * (block @ centres.T)).argmin(axis=1)
    return out


def plus_plus(x: np.ndarray, size: int, rng: np.random.Generator) -> np.ndarray:
    """`size` rows of `x` [N, E], each drawn in proportion to its squared distance to those before.

    Arthur & Vassilvitskii, SODA 2007. The caller keeps BLAS to one thread.
    """
    norms = (x * x).sum(axis=1)
    chosen = np.empty(size, dtype=np.int64)
    chosen[0] = rng.integers(len(x))
    left = np.full(len(x), np.inf)
    for i in range(1, size):
        last = x[chosen[i - 1]]
        left = np.minimum(left, (norms - 2 * (x @ last) + last @ last).clip(min=0))
        left[chosen[:i]] = 0
        ends = np.cumsum(left, dtype=np.float64)
        # no row is apart from those chosen: equal vectors; any is as good
        at = np.searchsorted(ends, rng.random() * ends[-1], side="right") if ends[-1] else i
        chosen[i] = min(at, len(x) - 1)
    return x[chosen].copy()
