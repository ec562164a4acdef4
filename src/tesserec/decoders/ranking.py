"""From "the best k under masks" to a ranking under all rules, and the top k of a block of scores.

Every decoder brings the first; quotas and caps are the same for all and live here.
Legend of shapes: N items, B users.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from tesserec.decoders.constraints import Constraints, bits_at, choose
from tesserec.decoders.ties import seeded
from tesserec.errors import TesserecError

USER_BLOCK = 64  # users that are ranked together
NEVER = -np.inf

Ranked = tuple[np.ndarray, np.ndarray]
# (users, k, rules of these users, packed bits that items must have too or None) -> rows int64 and
# scores float32 [len(users), at most k]: best by score, then by row; -1 and -inf where none is
# left. Of the rules it reads `allowed`, `deny` and `allow`.
Top = Callable[[list[int], int, Constraints, np.ndarray | None], Ranked]


def rank_under(top: Top, users: int, items: int, k: int, constraints: Constraints | None) -> Ranked:
    """The k best allowed items of each user.

    Returns:
        Rows int64 [B, k] and scores float32 [B, k], best first. Where fewer than k items are
        allowed, rows end with -1 and scores with -inf.

    Raises:
        TesserecError: k below 1, or constraints of another size.
    """
    rules = constraints or Constraints()
    rules.check(users, items)
    if k < 1:
        raise TesserecError(f"k is {k}; ask for at least one item")
    rows = np.full((users, k), -1, dtype=np.int64)
    scores = np.full((users, k), NEVER, dtype=np.float32)
    if rules.seeds is not None and any(seed is not None for seed in rules.seeds):
        top = seeded(top, rules.seeds)
    for start in range(0, users, USER_BLOCK):
        block = list(range(start, min(start + USER_BLOCK, users)))
        if rules.quota is None and rules.cap is None:
            part = top(block, k, _sparse(rules, block), None)
        else:
            part = _with_quota_and_cap(top, block, items, k, rules)
        width = part[0].shape[1]
        rows[block, :width], scores[block, :width] = part
    return rows, scores


def users_of(state: Any) -> int:
    """How many users a state is of; a state is a tensor [B, ...] or a tuple of states."""
    return len(state) if isinstance(state, torch.Tensor) else users_of(state[0])


def require_finite(state: Any) -> None:
    """Raises TesserecError if a tensor of the state holds what isn't a number."""
    for part in (state,) if isinstance(state, torch.Tensor) else state:
        if not isinstance(part, torch.Tensor):
            require_finite(part)
        elif not bool(torch.isfinite(part).all()):
            raise TesserecError("the model's log-probabilities are not finite; its weights are bad")


def top_k(scores: torch.Tensor, k: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Largest k of each line of [B, n] and their places; among equals the lower place wins.

    `torch.topk` alone promises nothing about equals.
    """
    width = scores.shape[1]
    if width <= k:
        best, order = torch.sort(scores, dim=1, descending=True, stable=True)
        return best, order
    probe, order = torch.topk(scores, k + 1, dim=1)
    order = order[:, :k]
    for line in torch.nonzero(probe[:, k - 1] == probe[:, k]).flatten().tolist():
        order[line] = torch.sort(scores[line], descending=True, stable=True).indices[:k]
    order = torch.sort(order, dim=1).values
    best, place = torch.sort(scores.gather(1, order), dim=1, descending=True, stable=True)
    return best, order.gather(1, place)


# ---- quotas and caps: a longer list than k, chosen from ----


def _with_quota_and_cap(
    top: Top, users: list[int], items: int, k: int, rules: Constraints
) -> Ranked:
    out_rows = np.full((len(users), k), -1, dtype=np.int64)
    out_scores = np.full((len(users), k), NEVER, dtype=np.float32)
    waiting, pool = list(range(len(users))), 4 * k
    while waiting:
        # users whose list was too short to be sure get one four times as long
        pools = _pools(top, [users[place] for place in waiting], pool, rules)
        unsure = []
        for place, one in zip(waiting, pools, strict=True):
            chosen = _choose(one, k, pool < items, rules)
            if chosen is None:
                unsure.append(place)
                continue
            out_rows[place, : len(chosen)] = one.rows[chosen]
            out_scores[place, : len(chosen)] = one.scores[chosen]
        waiting, pool = unsure, pool * 4
    return out_rows, out_scores


@dataclass(frozen=True)
class _Pool:
    """One user's best items and best quota items, merged: rows and scores, best first."""

    rows: np.ndarray
    scores: np.ndarray
    cut: int | None  # behind this place all but quota items are missing; None: nothing is
    every_quota: bool  # no quota item is missing at all


def _pools(top: Top, users: list[int], pool: int, rules: Constraints) -> list[_Pool]:
    """For each user the best `pool` items and the best `pool` quota items."""
    part = _sparse(rules, users)
    rows, scores = top(users, pool, part, None)
    if rules.quota is None:
        return [
            _Pool(r[r >= 0], s[r >= 0], len(r) if r[-1] >= 0 else None, True)
            for r, s in zip(rows, scores, strict=True)
        ]
    more_rows, more_scores = top(users, pool, part, rules.quota[0])
    pools = []
    for index, user in enumerate(users):
        extra = ~np.isin(more_rows[index], rows[index])
        all_rows = np.concatenate([rows[index], more_rows[index][extra]])
        all_scores = np.concatenate([scores[index], more_scores[index][extra]])
        drawn = rules.seeds is not None and rules.seeds[user] is not None
        # with a seed, the whole list has the order of equals, and its own come before the extra
        ties = np.arange(len(all_rows)) if drawn else all_rows
        order = np.lexsort((ties, -all_scores))
        all_rows, all_scores = all_rows[order], all_scores[order]
        last = rows[index][-1]
        cut = int(np.flatnonzero(all_rows == last)[0]) + 1 if last >= 0 else None
        there = all_rows >= 0
        every = bool((more_rows[index] < 0).any())
        pools.append(_Pool(all_rows[there], all_scores[there], cut, every))
    return pools


def _choose(pool: _Pool, k: int, cut: bool, rules: Constraints) -> list[int] | None:
    quota, need = rules.quota or (None, 0)
    group, cap = rules.cap or (None, 0)
    return choose(
        pool.rows,
        k,
        cut=pool.cut if cut else None,
        in_quota=None if quota is None else bits_at(quota, pool.rows),
        every_quota=pool.every_quota,
        need=need,
        group=None if group is None else group[pool.rows],
        cap=cap,
    )


def _sparse(rules: Constraints, users: Sequence[int]) -> Constraints:
    """What a decoder itself reads of the rules of some users."""
    return replace(rules.of(users), quota=None, cap=None, seeds=None)
