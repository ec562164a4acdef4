"""The scan with 64 users side by side: one code byte fetches a line of cache with their 64 bytes.

For machines without the permutes of scan_kernels, and for codes of 16 bits. All users share the
work on an item, so it doesn't pay for a few of them.
Legend of shapes: B users, m digits, K codes a digit, n blocks of 256 items.
"""

from __future__ import annotations

import numpy as np

from tesserec.decoders.lanes import add, at_least, high, load, splat, trailing_zeros
from tesserec.decoders.scan_kernels import keep
from tesserec.decoders.scan_tables import BLOCK, exact, kernel

SIDE = 64  # users


def beside(table: np.ndarray) -> np.ndarray:
    """Tables uint8 [B, m, K] of at most 64 users -> [m * K, 64]."""
    out = np.zeros((table.shape[1] * table.shape[2], SIDE), np.uint8)
    out[:, : len(table)] = table.reshape(len(table), -1).T
    return out


@kernel
def rank_side(
    codes: np.ndarray,
    first: int,
    stop: int,
    state: np.ndarray,
    table: np.ndarray,
    bounds: np.ndarray,
    open_: np.ndarray,
    deny_at: np.ndarray,
    deny: np.ndarray,
    out: tuple[np.ndarray, np.ndarray, np.ndarray],
) -> None:
    """What `rank_blocks` does, of tables as `beside` lays them."""
    digits, width = codes.shape[1], len(table) // codes.shape[1]
    scores, _, filled = out
    k = scores.shape[1]
    limits = np.full((2, SIDE // 2), 65535, np.uint16)  # of even users, of odd users
    for user in range(len(state)):
        limits[user % 2, user // 2] = 0
    table_at, limits_at = table.ctypes.data, limits.ctypes.data
    for block in range(first, stop):
        for place in range(BLOCK):
            if (open_[block, place >> 6] >> np.uint64(place & 63)) & np.uint64(1) == 0:
                continue
            total = odd = splat(0)
            for j in range(digits):
                line = load(table_at + (j * width + codes[block, j, place]) * SIDE)
                total, odd = add(total, line), add(odd, high(line))
            left = at_least(total, odd, load(limits_at), load(limits_at + SIDE))
            while left != 0:
                user = trailing_zeros(left)
                left &= left - np.uint64(1)
                score = exact(codes, block, place, state[user])
                if filled[user] == k and not score > scores[user, 0]:
                    continue
                row, limit = block * BLOCK + place, np.int64(limits[user % 2, user // 2])
                limit = keep(score, row, user, bounds, deny_at, deny, out, limit)
                limits[user % 2, user // 2] = limit
