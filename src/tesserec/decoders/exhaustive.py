"""Exact decoding over any scorer: every item is scored, in blocks.

Legend of shapes: N items, B users.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from tesserec.decoders.constraints import Constraints, unpack_bits
from tesserec.decoders.ranking import (
    NEVER,
    USER_BLOCK,
    Ranked,
    rank_under,
    require_finite,
    top_k,
    users_of,
)
from tesserec.decoders.scorers import CodeScorer, take

if TYPE_CHECKING:
    from tesserec.models.protocols import Scorer

ITEM_BLOCK = 16_384  # items scored at once; with USER_BLOCK it bounds memory, whatever N is


class Exhaustive:
    """Scores the whole catalogue, in blocks, and ranks it; ties go to the lowest row, exactly."""

    def __init__(self, scorer: Scorer) -> None:
        self._scorer = scorer
        self.items = scorer.items

    @classmethod
    def of(cls, model: Any, codes: Any) -> Exhaustive:
        """For a model with a scorer of its own, else for one with codes."""
        own = getattr(model, "scorer", None)
        return cls(own() if own is not None else CodeScorer(codes, model.shape.codebook_size))

    def to(self, device: torch.device) -> Exhaustive:
        move = getattr(self._scorer, "to", None)
        if move is not None:
            move(device)
        return self

    def rank(self, state: Any, k: int, constraints: Constraints | None = None) -> Ranked:
        """See `ranking.rank_under`.

        Raises:
            TesserecError: k below 1, a state that isn't finite, or constraints of another size.
        """
        require_finite(state)

        def top(users: list[int], k: int, rules: Constraints, only: np.ndarray | None) -> Ranked:
            return self._top(take(self._scorer, state, users), k, rules, only)

        return rank_under(top, users_of(state), self.items, k, constraints)

    def target_ranks(
        self, state: Any, targets: np.ndarray, seen: Sequence[np.ndarray]
    ) -> tuple[np.ndarray, np.ndarray]:
        """1-based rank of one item per user, seen items kept and dropped, int64 [B] each.

        Equal to the place in `rank` without having to sort. 0: the target is no item (row -1), or
        it is itself among the seen, so that the dropped ranking never shows it.
        """
        users = users_of(state)
        kept, dropped = np.zeros(users, dtype=np.int64), np.zeros(users, dtype=np.int64)
        for start in range(0, users, USER_BLOCK):
            part = list(range(start, min(start + USER_BLOCK, users)))
            block = take(self._scorer, state, part)
            kept[part], dropped[part] = self._ranks_block(
                block, targets[part], [seen[user] for user in part]
            )
        return kept, dropped

    # ---- one block of users ----

    def _blocks(self) -> list[tuple[int, int]]:
        edges = range(0, self.items, ITEM_BLOCK)
        return [(start, min(start + ITEM_BLOCK, self.items)) for start in edges]

    def _top(self, state: Any, k: int, rules: Constraints, only: np.ndarray | None) -> Ranked:
        best_rows = torch.empty((users_of(state), 0), dtype=torch.int64)
        best_scores = torch.empty((users_of(state), 0))
        for start, scores in self._masked_blocks(state, rules, only):
            scores, rows = top_k(scores, k)
            rows, scores = rows.cpu() + start, scores.cpu()
            if best_rows.shape[1] == 0:
                best_rows, best_scores = rows, scores
                continue
            # earlier blocks stand first, and hold the lower rows: a stable order keeps ties right
            joined = torch.cat([best_scores, scores], dim=1)
            best_scores, order = top_k(joined, k)
            best_rows = torch.cat([best_rows, rows], dim=1).gather(1, order)
        best_rows[best_scores == NEVER] = -1
        return best_rows.numpy(), best_scores.numpy()

    def _masked_blocks(
        self, state: Any, rules: Constraints, only: np.ndarray | None
    ) -> Iterator[tuple[int, torch.Tensor]]:
        """(first row, scores [B, n]) of each block of items; -inf where the rules say no."""
        for start, stop in self._blocks():
            scores = self._scorer.scores(state, start, stop).t().contiguous()
            for bits in (rules.allowed, only):
                if bits is not None:
                    closed = torch.from_numpy(~unpack_bits(bits, start, stop))
                    scores[:, closed.to(scores.device)] = NEVER
            if rules.deny is not None:
                _close(scores, rules.deny, start, stop)
            if rules.allow is not None:
                _keep_only(scores, rules.allow, start, stop)
            yield start, scores

    def _ranks_block(
        self, state: Any, targets: np.ndarray, seen: Sequence[np.ndarray]
    ) -> tuple[np.ndarray, np.ndarray]:
        known = targets >= 0
        above = np.zeros(len(targets), dtype=np.int64)
        seen_above = np.zeros(len(targets), dtype=np.int64)
        own, last = self._own_scores(state, targets)
        for start, stop in self._blocks():
            # the first pass's last block is often the only one
            hit = last is not None and last[0] == start
            scores = (
                last[1] if last is not None and hit else self._scorer.scores(state, start, stop)
            )
            own, target = own.to(scores.device), torch.from_numpy(targets).to(scores.device)
            row = torch.arange(start, stop, device=scores.device)[:, None]
            ahead = (scores > own) | ((scores == own) & (row < target))
            above += ahead.sum(0).cpu().numpy()
            seen_above += _count_ahead(ahead.cpu().numpy(), seen, start, stop)
        kept = above + 1
        dropped = kept - seen_above
        itself = np.array([t in s for t, s in zip(targets.tolist(), seen, strict=True)], dtype=bool)
        return np.where(known, kept, 0), np.where(known & ~itself, dropped, 0)

    def _own_scores(
        self, state: Any, targets: np.ndarray
    ) -> tuple[torch.Tensor, tuple[int, torch.Tensor] | None]:
        """Each user's score of the target [B], out of whole blocks, and the last block scored.

        A target scored by itself might be rounded otherwise than the items it is compared with.
        """
        own, last = torch.zeros(len(targets)), None
        for start, stop in self._blocks():
            inside = np.flatnonzero((targets >= start) & (targets < stop))
            if len(inside):
                last = (start, self._scorer.scores(state, start, stop))
                own[inside] = last[1][targets[inside] - start, inside].cpu()
        return own, last


def _pairs(
    rows: Sequence[np.ndarray | None], start: int, stop: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """(user, row - start) of all sparse rows that lie in a block of items."""
    filled = [np.asarray([] if r is None else r, dtype=np.int64) for r in rows]
    user = np.repeat(np.arange(len(filled)), [len(r) for r in filled])
    row = np.concatenate(filled) if filled else np.empty(0, dtype=np.int64)
    inside = (row >= start) & (row < stop)
    return torch.from_numpy(user[inside]), torch.from_numpy(row[inside] - start)


def _close(scores: torch.Tensor, rows: Sequence[np.ndarray | None], start: int, stop: int) -> None:
    user, row = _pairs(rows, start, stop)
    scores[user.to(scores.device), row.to(scores.device)] = NEVER


def _keep_only(
    scores: torch.Tensor, rows: Sequence[np.ndarray | None], start: int, stop: int
) -> None:
    user, row = _pairs(rows, start, stop)
    user, row = user.to(scores.device), row.to(scores.device)
    ruled = torch.tensor([r is not None for r in rows], device=scores.device)
    kept = scores[user, row]
    scores[ruled] = NEVER
    scores[user, row] = kept


def _count_ahead(
    ahead: np.ndarray, seen: Sequence[np.ndarray], start: int, stop: int
) -> np.ndarray:
    """How many distinct seen items stand before the target; ahead is bool [n, B]."""
    user, row = _pairs(seen, start, stop)
    user, row = user.numpy(), row.numpy()
    out = np.zeros(len(seen), dtype=np.int64)
    np.add.at(out, user, ahead[row, user])
    return out
