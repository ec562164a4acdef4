"""Exact decoding: an item's score is the sum of its m codes' log-probabilities, for every item.

Legend of shapes: N items, m digits, K codes a digit, B users.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch.nn import functional as F

from tesserec.decoders.constraints import Constraints, bits_at, choose, unpack_bits
from tesserec.errors import TesserecError

ITEM_BLOCK = 16_384  # items scored at once; with USER_BLOCK it bounds memory, whatever N is
USER_BLOCK = 64  # m * K * 64 floats (2 MB at 32 digits) stay in second-level cache
NEVER = -np.inf


class Exhaustive:
    """Scores the whole catalogue, in blocks, and ranks it; ties go to the lowest row, exactly."""

    def __init__(self, codes: np.ndarray, codebook_size: int) -> None:
        """`codes` is the code table uint8/uint16 [N, m]."""
        self.items, self.digits = codes.shape
        self.codebook_size = codebook_size
        offsets = np.arange(self.digits, dtype=np.int32) * codebook_size
        self._index = torch.from_numpy(codes.astype(np.int32) + offsets)

    def to(self, device: torch.device) -> Exhaustive:
        self._index = self._index.to(device)
        return self

    def scores(self, state: torch.Tensor, start: int, stop: int) -> torch.Tensor:
        """Sums of log-probabilities [stop - start, B] of a block of items, for states [B, m, K]."""
        table = _table(state)
        return F.embedding_bag(self._index[start:stop], table, mode="sum")

    def rank(
        self, state: torch.Tensor, k: int, constraints: Constraints | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """The k best allowed items of each user.

        Returns:
            Rows int64 [B, k] and scores float32 [B, k], best first. Where fewer than k items are
            allowed, rows end with -1 and scores with -inf.

        Raises:
            TesserecError: k below 1, a state that isn't finite, or constraints of another size.
        """
        rules = constraints or Constraints()
        rules.check(len(state), self.items)
        if k < 1:
            raise TesserecError(f"k is {k}; ask for at least one item")
        if not bool(torch.isfinite(state).all()):
            raise TesserecError("the model's log-probabilities are not finite; its weights are bad")
        rows = np.full((len(state), k), -1, dtype=np.int64)
        scores = np.full((len(state), k), NEVER, dtype=np.float32)
        for start in range(0, len(state), USER_BLOCK):
            stop = min(start + USER_BLOCK, len(state))
            part = self._rank_block(state[start:stop], k, rules.take(start, stop))
            width = part[0].shape[1]
            rows[start:stop, :width], scores[start:stop, :width] = part
        return rows, scores

    def target_ranks(
        self, state: torch.Tensor, targets: np.ndarray, seen: Sequence[np.ndarray]
    ) -> tuple[np.ndarray, np.ndarray]:
        """1-based rank of one item per user, seen items kept and dropped, int64 [B] each.

        Equal to the place in `rank` without having to sort. 0: the target is no item (row -1), or
        it is itself among the seen, so that the dropped ranking never shows it.
        """
        kept = np.zeros(len(state), dtype=np.int64)
        dropped = np.zeros(len(state), dtype=np.int64)
        for start in range(0, len(state), USER_BLOCK):
            part = slice(start, min(start + USER_BLOCK, len(state)))
            kept[part], dropped[part] = self._ranks_block(state[part], targets[part], seen[part])
        return kept, dropped

    # ---- one block of users ----

    def _rank_block(
        self, state: torch.Tensor, k: int, rules: Constraints
    ) -> tuple[np.ndarray, np.ndarray]:
        if rules.quota is None and rules.cap is None:
            return self._top(state, k, rules, None)
        out_rows = np.full((len(state), k), -1, dtype=np.int64)
        out_scores = np.full((len(state), k), NEVER, dtype=np.float32)
        waiting, pool = list(range(len(state))), 4 * k
        while waiting:
            # users whose list was too short to be sure get one four times as long
            rows, scores, cuts = self._pools(state, waiting, pool, rules)
            unsure = []
            for place, user in enumerate(waiting):
                valid = rows[place] >= 0
                cut = cuts[place] if pool < self.items else None
                chosen = _choose(rows[place][valid], k, cut, rules)
                if chosen is None:
                    unsure.append(user)
                    continue
                out_rows[user, : len(chosen)] = rows[place][valid][chosen]
                out_scores[user, : len(chosen)] = scores[place][valid][chosen]
            waiting, pool = unsure, pool * 4
        return out_rows, out_scores

    def _pools(
        self, state: torch.Tensor, users: list[int], pool: int, rules: Constraints
    ) -> tuple[list[np.ndarray], list[np.ndarray], list[int]]:
        """For each user the best `pool` items and the best `pool` quota items, merged by score.

        The third list says up to where the merged list misses nothing.
        """
        part = _select(rules, users)
        rows, scores = self._top(state[users], pool, part, None)
        if rules.quota is None:
            return list(rows), list(scores), [rows.shape[1]] * len(users)
        more_rows, more_scores = self._top(state[users], pool, part, rules.quota[0])
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

    def _top(
        self, state: torch.Tensor, k: int, rules: Constraints, only: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Best k by score, then by row, [B, min(k, N)]; -1 where nothing allowed was left."""
        best_rows = torch.empty((len(state), 0), dtype=torch.int64)
        best_scores = torch.empty((len(state), 0))
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
        self, state: torch.Tensor, rules: Constraints, only: np.ndarray | None
    ) -> Iterator[tuple[int, torch.Tensor]]:
        """(first row, scores [B, n]) of each block of items; -inf where the rules say no."""
        for start in range(0, self.items, ITEM_BLOCK):
            stop = min(start + ITEM_BLOCK, self.items)
            scores = self.scores(state, start, stop).t().contiguous()
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
        self, state: torch.Tensor, targets: np.ndarray, seen: Sequence[np.ndarray]
    ) -> tuple[np.ndarray, np.ndarray]:
        known = targets >= 0
        target = torch.from_numpy(np.where(known, targets, 0)).to(state.device)
        # the diagonal of a full block, so that the same kernel rounds it as it rounds the others
        table = _table(state)
        own = F.embedding_bag(self._index[target], table, mode="sum").diagonal()
        above = torch.zeros(len(state), dtype=torch.int64, device=state.device)
        seen_above = np.zeros(len(state), dtype=np.int64)
        for start in range(0, self.items, ITEM_BLOCK):
            stop = min(start + ITEM_BLOCK, self.items)
            scores = self.scores(state, start, stop)
            ahead = scores > own
            row = torch.arange(start, stop, device=state.device)[:, None]
            ahead |= (scores == own) & (row < target)
            above += ahead.sum(0)
            seen_above += _count_ahead(ahead.cpu().numpy(), seen, start, stop)
        kept = above.cpu().numpy() + 1
        dropped = kept - seen_above
        itself = np.array([t in s for t, s in zip(targets.tolist(), seen, strict=True)], dtype=bool)
        return np.where(known, kept, 0), np.where(known & ~itself, dropped, 0)


def _table(state: torch.Tensor) -> torch.Tensor:
    """[B, m, K] -> [m * K, B] in plain strides.

    `contiguous` would leave the odd strides of a single user's column, and with them
    embedding_bag takes a path that is forty times as slow.
    """
    return state.reshape(len(state), -1).t().clone(memory_format=torch.contiguous_format)


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


def _select(rules: Constraints, users: list[int]) -> Constraints:
    return Constraints(
        allowed=rules.allowed,
        deny=None if rules.deny is None else [rules.deny[u] for u in users],
        allow=None if rules.allow is None else [rules.allow[u] for u in users],
    )


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
