"""From "the best k under masks" to a ranking under all rules, and the top k of a block of scores.

Every decoder brings the first; quotas and caps are the same for all and live here.
Legend of shapes: N items, B users.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from tesserec.decoders.constraints import Constraints, bits_at, choose
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
    for start in range(0, users, USER_BLOCK):
        block = list(range(start, min(start + USER_BLOCK, users)))
        if rules.quota is None and rules.cap is None:
            part = top(block, k, _of_users(rules, block), None)
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
        rows, scores, cuts = _pools(top, [users[place] for place in waiting], pool, rules)
        unsure = []
        for index, place in enumerate(waiting):
            valid = rows[index] >= 0
            cut = cuts[index] if pool < items else None
            chosen = _choose(rows[index][valid], k, cut, rules)
            if chosen is None:
                unsure.append(place)
                continue
            out_rows[place, : len(chosen)] = rows[index][valid][chosen]
            out_scores[place, : len(chosen)] = scores[index][valid][chosen]
        waiting, pool = unsure, pool * 4
    return out_rows, out_scores


def _pools(
    top: Top, users: list[int], pool: int, rules: Constraints
) -> tuple[list[np.ndarray], list[np.ndarray], list[int]]:
    """For each user the best `pool` items and the best `pool` quota items, merged by score.

    The third list says up to where the merged list misses nothing.
    """
    part = _of_users(rules, users)
    rows, scores = top(users, pool, part, None)
    if rules.quota is None:
        return list(rows), list(scores), [rows.shape[1]] * len(users)
    more_rows, more_scores = top(users, pool, part, rules.quota[0])
    merged_rows, merged_scores, cuts = [], [], []
    for index in range(len(users)):
        last = rows[index][-1]
        extra = ~np.isin(more_rows[index], rows[index])
        all_rows = np.concatenate([rows[index], more_rows[index][extra]])
        all_scores = np.concatenate([scores[index], more_scores[index][extra]])
        order = np.lexsort((all_rows, -all_scores))
        merged_rows.append(all_rows[order])
        merged_scores.append(all_scores[order])
        cuts.append(int(np.flatnonzero(all_rows[order] == last)[0]) + 1 if last >= 0 else pool)
    return merged_rows, merged_scores, cuts


def _choose(rows: np.ndarray, k: int, cut: int | None, rules: Constraints) -> list[int] | None:
    quota, need = rules.quota or (None, 0)
    group, cap = rules.cap or (None, 0)
    return choose(
        rows,
        k,
        cut=cut,
        in_quota=None if quota is None else bits_at(quota, rows),
        need=need,
        group=None if group is None else group[rows],
        cap=cap,
    )


def _of_users(rules: Constraints, users: Sequence[int]) -> Constraints:
    return Constraints(
        allowed=rules.allowed,
        deny=None if rules.deny is None else [rules.deny[u] for u in users],
        allow=None if rules.allow is None else [rules.allow[u] for u in users],
    )
