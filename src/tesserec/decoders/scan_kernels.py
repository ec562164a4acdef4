"""The scan of all codes: which items of a block may reach a score, users one after the other.

With AVX-512 VBMI one instruction looks up 64 codes in half of a byte table; elsewhere, and for
codes of 16 bits, the same sums are made one by one.
Legend of shapes: B users, m digits, K codes a digit, n blocks of 256 items, k results.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import types
from numba.extending import overload

from tesserec.decoders.lanes import (
    HAS_LOOKUP,
    add,
    at_least,
    high,
    load,
    lookup,
    popcount,
    prefetch,
    splat,
    trailing_zeros,
)
from tesserec.decoders.scan_heap import denied, push
from tesserec.decoders.scan_tables import BLOCK, exact, kernel, reaching

AHEAD = 8192  # bytes; memory's own look-ahead stops at the end of each page
SPAN = (
    262_144  # bytes of codes that all users read before the next: they stay in second-level cache
)


def masks(
    codes: np.ndarray,
    block: int,
    table: np.ndarray,
    user: int,
    maybe: int,
    sure: int,
    sums: np.ndarray,
    bits: np.ndarray,
) -> None:
    """Fill bits uint64 [8]: whose sum reaches `maybe` (4 words), and whose reaches `sure`.

    Sums is uint16 [256], for scratch.
    """
    raise NotImplementedError("compiled code only")


@overload(masks)
def _masks(
    codes: np.ndarray,
    block: int,
    table: np.ndarray,
    user: int,
    maybe: int,
    sure: int,
    sums: np.ndarray,
    bits: np.ndarray,
) -> Any:
    return _by_permute if HAS_LOOKUP and codes.dtype == types.uint8 else _one_by_one


def _by_permute(
    codes: np.ndarray,
    block: int,
    table: np.ndarray,
    user: int,
    maybe: int,
    sure: int,
    sums: np.ndarray,
    bits: np.ndarray,
) -> None:
    digits = codes.shape[1]
    code_at = codes.ctypes.data + block * digits * 256
    table_at = table.ctypes.data + user * digits * 256
    zero = splat(0)
    a0 = a1 = a2 = a3 = o0 = o1 = o2 = o3 = zero
    for j in range(digits):
        t, c = table_at + j * 256, code_at + j * 256
        for line in range(4):
            prefetch(c + AHEAD + 64 * line)
        t0, t1, t2, t3 = load(t), load(t + 64), load(t + 128), load(t + 192)
        v = lookup(t0, t1, t2, t3, load(c))
        a0, o0 = add(a0, v), add(o0, high(v))
        v = lookup(t0, t1, t2, t3, load(c + 64))
        a1, o1 = add(a1, v), add(o1, high(v))
        v = lookup(t0, t1, t2, t3, load(c + 128))
        a2, o2 = add(a2, v), add(o2, high(v))
        v = lookup(t0, t1, t2, t3, load(c + 192))
        a3, o3 = add(a3, v), add(o3, high(v))
    limit = splat(maybe)
    bits[0], bits[1] = at_least(a0, o0, limit, limit), at_least(a1, o1, limit, limit)
    bits[2], bits[3] = at_least(a2, o2, limit, limit), at_least(a3, o3, limit, limit)
    limit = splat(sure)
    bits[4], bits[5] = at_least(a0, o0, limit, limit), at_least(a1, o1, limit, limit)
    bits[6], bits[7] = at_least(a2, o2, limit, limit), at_least(a3, o3, limit, limit)


def _one_by_one(
    codes: np.ndarray,
    block: int,
    table: np.ndarray,
    user: int,
    maybe: int,
    sure: int,
    sums: np.ndarray,
    bits: np.ndarray,
) -> None:
    for i in range(BLOCK):
        sums[i] = 0
    for j in range(codes.shape[1]):
        for i in range(BLOCK):
            sums[i] += table[user, j, codes[block, j, i]]
    for word in range(4):
        may, must = np.uint64(0), np.uint64(0)
        for i in range(64):
            may |= np.uint64(sums[64 * word + i] >= maybe) << np.uint64(i)
            must |= np.uint64(sums[64 * word + i] >= sure) << np.uint64(i)
        bits[word], bits[4 + word] = may, must


@kernel
def keep(
    score: float,
    row: int,
    user: int,
    bounds: np.ndarray,
    deny_at: np.ndarray,
    deny: np.ndarray,
    out: tuple[np.ndarray, np.ndarray, np.ndarray],
    limit: int,
) -> int:
    """Put an item among a user's best, if it isn't denied; the new limit of sums."""
    scores, rows, filled = out
    if denied(deny, deny_at[user], deny_at[user + 1], row):
        return limit
    push(scores[user], rows[user], filled, user, score, row)
    if filled[user] < scores.shape[1]:
        return limit
    return reaching(scores[user, 0], bounds[user, 0], bounds[user, 2])


@kernel
def rank_blocks(
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
    """The k best open items of blocks first..stop-1, for each user, into the heaps `out`.

    open_ is uint64 [n, 4]; deny[deny_at[u]:deny_at[u + 1]] are sorted rows that user u never gets.
    out: scores float32 [B, k], rows int64 [B, k], filled int64 [B]; see scan_heap.
    """
    scores, _, filled = out
    digits, k = codes.shape[1], scores.shape[1]
    sums, bits = np.empty(BLOCK, np.uint16), np.empty(8, np.uint64)
    limits = np.zeros(len(state), np.int64)
    span = max(1, SPAN // (digits * BLOCK))
    for start in range(first, stop, span):
        for user in range(len(state)):
            limit = limits[user]
            for block in range(start, min(start + span, stop)):
                if (open_[block, 0] | open_[block, 1] | open_[block, 2] | open_[block, 3]) == 0:
                    continue
                masks(codes, block, table, user, limit, 65535, sums, bits)
                for word in range(4):
                    left = bits[word] & open_[block, word]
                    while left != 0:
                        place = 64 * word + trailing_zeros(left)
                        left &= left - np.uint64(1)
                        score = exact(codes, block, place, state[user])
                        # items come by rising rows: one that equals the worst kept is behind it
                        if filled[user] < k or score > scores[user, 0]:
                            row = block * BLOCK + place
                            limit = keep(score, row, user, bounds, deny_at, deny, out, limit)
            limits[user] = limit


@kernel
def count_blocks(
    codes: np.ndarray,
    first: int,
    stop: int,
    state: np.ndarray,
    table: np.ndarray,
    bounds: np.ndarray,
    open_: np.ndarray,
    own: np.ndarray,
    target: np.ndarray,
    above: np.ndarray,
) -> None:
    """Add to above int64 [B] how many items of the blocks stand before each user's target.

    own is the target's score float32 [B], target its row int64 [B].
    """
    digits = codes.shape[1]
    sums, bits = np.empty(BLOCK, np.uint16), np.empty(8, np.uint64)
    span = max(1, SPAN // (digits * BLOCK))
    for start in range(first, stop, span):
        for user in range(len(state)):
            step, lower, upper = bounds[user, 0], bounds[user, 1], bounds[user, 2]
            equal = np.nextafter(own[user], np.float32(-np.inf))
            maybe, sure = reaching(equal, step, upper), reaching(own[user], step, lower)
            for block in range(start, min(start + span, stop)):
                masks(codes, block, table, user, maybe, sure, sums, bits)
                for word in range(4):
                    above[user] += popcount(bits[4 + word] & open_[block, word])
                    left = bits[word] & ~bits[4 + word] & open_[block, word]
                    while left != 0:
                        place = 64 * word + trailing_zeros(left)
                        left &= left - np.uint64(1)
                        score = exact(codes, block, place, state[user])
                        row = block * BLOCK + place
                        if score > own[user] or (score == own[user] and row < target[user]):
                            above[user] += 1
