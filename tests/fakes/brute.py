"""The rules of decoders/constraints.py, told another way: over whole lists, no early stop."""

from __future__ import annotations

import numpy as np


def tie_key(seed: int | None, row: int) -> int:
    """What orders equal scores, in whole numbers of Python."""
    if seed is None:
        return row
    x, wide = seed << 32 | row, 2**64
    x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9 % wide
    x = (x ^ x >> 27) * 0x94D049BB133111EB % wide
    return x ^ x >> 31


def chosen_by_hand(
    order: list[int],
    k: int,
    member: np.ndarray | None = None,
    need: int = 0,
    group: np.ndarray | None = None,
    cap: int = 0,
) -> list[int]:
    """The k rows of `order` (all that are allowed, best first) under a quota and a cap.

    `member` is bool [N]: at least `need` of these; None: no quota. At most `cap` rows of one group.
    """
    if member is None:
        return _capped(order, [], k, group, cap)
    need = min(need, k)
    chosen: list[int] = []
    for row in order:
        free = k - len(chosen)
        missing = max(need - sum(bool(member[c]) for c in chosen), 0)
        if free > 0 and (member[row] or free > missing):
            chosen = _capped([row], chosen, k, group, cap)
        if len(chosen) == k:
            break
    if sum(bool(member[c]) for c in chosen) < need:
        chosen = _capped([r for r in order if member[r]], [], need, group, cap)
    chosen = _capped(order, chosen, k, group, cap)
    place = {row: number for number, row in enumerate(order)}
    return sorted(chosen, key=place.__getitem__)


def _capped(
    order: list[int], taken: list[int], limit: int, group: np.ndarray | None, cap: int
) -> list[int]:
    """Greedy down the list under the cap, after those already taken."""
    chosen = list(taken)
    for row in order:
        if len(chosen) == limit:
            break
        full = (
            group is not None
            and group[row] >= 0
            and sum(group[c] == group[row] for c in chosen) >= cap
        )
        if row not in chosen and not full:
            chosen.append(row)
    return chosen
