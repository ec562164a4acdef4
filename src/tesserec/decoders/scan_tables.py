"""Tables of 8 bits with a proven bound, and the exact score that decides what the bound can't.

A user's table t[j, c] is written as off[j] + step * q[j, c] with q a byte; step is common to all
digits, so an item's sum S of bytes is an integer that bounds its score from both sides:
    lower + step * S <= score <= upper + step * S       (proof: docs/decoding.md)
Legend of shapes: B users, m digits, K codes a digit, n blocks of 256 items.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from numba import njit

BLOCK = 256  # items of one block: codes are uint8/uint16 [n, m, 256], so a block is read in one go
TOP = 65_534  # a sum stays below 2^16 - 1, which is the limit that nothing reaches
HALF_ULP = 2.0**-24  # of float32, relative
MARGIN = 1.01  # far above what the float64 arithmetic of the bounds itself rounds


def kernel(function: Callable[..., Any], *, free_sums: bool = False) -> Any:
    """Compiled at its first call, without the interpreter's lock, and kept on disk if it can be.

    `free_sums` lets the compiler reorder sums of finite numbers, never those of scores. What lies
    on disk counts only as long as no file of this folder has changed: numba itself looks at the
    file of the function alone, not at those whose functions are compiled into it.
    """
    free = {"reassoc", "contract", "nnan", "nsz"} if free_sums else False
    options = {"nogil": True, "error_model": "numpy", "fastmath": free}
    try:
        compiled: Any = njit(cache=True, **options)(function)
    except RuntimeError:  # no folder for the compiled code: neither beside the source nor at home
        return njit(**options)(function)
    compiled._cache._cache_file._source_stamp = _sources()
    return compiled


@cache
def _sources() -> str:
    """Hash of all sources that kernels are made of."""
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()


@kernel
def finite(bits: np.ndarray) -> bool:
    """Whether float32 numbers, seen as int32 [n], are all numbers: no exponent is full."""
    bad = 0
    for i in range(len(bits)):
        bad |= (bits[i] & 0x7F800000) == 0x7F800000
    return bad == 0


@partial(kernel, free_sums=True)
def quantise(state: np.ndarray, table: np.ndarray, bounds: np.ndarray) -> None:
    """Fill table uint8 [B, m, at least K] and bounds float64 [B, 3] of state float32 [B, m, K].

    Bounds are step, lower and upper.
    """
    users, digits, codes = state.shape
    levels = min(255, TOP // digits)
    least = np.empty(digits)
    for user in range(users):
        step, size = 0.0, 0.0
        for j in range(digits):
            low, up = state[user, j, 0], state[user, j, 0]
            for c in range(codes):
                low, up = min(low, state[user, j, c]), max(up, state[user, j, c])
            least[j] = low
            step = max(step, (np.float64(up) - np.float64(low)) / levels)
            size += max(abs(np.float64(low)), abs(np.float64(up)))
        if step == 0.0:
            step = 1.0
        per_step = 1.0 / step
        lower, upper = 0.0, 0.0
        for j in range(digits):
            under, over = 0.0, 0.0
            for c in range(codes):
                value = np.float64(state[user, j, c]) - least[j]
                q = min(np.float64(levels), np.ceil(value * per_step))
                table[user, j, c] = np.uint8(q)
                under, over = min(under, value - step * q), max(over, value - step * q)
            lower, upper = lower + least[j] + under, upper + least[j] + over
        rounding = MARGIN * digits * HALF_ULP * size  # of the float32 sum, see the proof
        bounds[user, 0], bounds[user, 1], bounds[user, 2] = step, lower - rounding, upper + rounding


@kernel
def reaching(score: float, step: float, bound: float) -> int:
    """The least sum S with bound + step * S > score, at most 65535."""
    if score == -np.inf:
        return 0
    return int(max(0.0, min(65535.0, np.floor((np.float64(score) - bound) / step) + 1.0)))


@kernel
def exact(codes: np.ndarray, block: int, place: int, table: np.ndarray) -> np.float32:
    """The score of an item: float32 [m, K] entries added in the order of digits."""
    score = np.float32(0.0)
    for j in range(codes.shape[1]):
        score += table[j, codes[block, j, place]]
    return score


@kernel
def scores_of(
    codes: np.ndarray, state: np.ndarray, starts: np.ndarray, rows: np.ndarray, out: np.ndarray
) -> None:
    """Scores of single items: rows[starts[u]:starts[u + 1]] are those of user u."""
    for user in range(len(state)):
        for at in range(starts[user], starts[user + 1]):
            out[at] = exact(codes, rows[at] // BLOCK, rows[at] % BLOCK, state[user])
