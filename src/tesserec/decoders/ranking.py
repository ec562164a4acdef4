"""From "the best k under masks" to a ranking under all rules, and the top k of a block of scores.

Every decoder brings the first; quotas, caps and seeds are the same for all.
Legend of shapes: N items, B users.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from tesserec.decoders.constraints import Constraints
from tesserec.decoders.quotas import rank_with_quota_and_cap
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
            part = top(block, k, rules.masks_of(block), None)
        else:
            part = rank_with_quota_and_cap(top, block, items, k, rules)
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
