"""Exact decoding by a scan of the code bytes, on the CPU; docs/decoding.md has the method.

Every item's score is bounded by a sum of table bytes; only items that the bound lets through are
scored in float32, and only those scores are compared. So the result is that of `Exhaustive`.
Legend of shapes: N items, m digits, K codes a digit, B users, n blocks of 256 items.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch

from tesserec.decoders.blocks import in_blocks, open_bits, within
from tesserec.decoders.constraints import Constraints
from tesserec.decoders.lanes import HAS_LOOKUP
from tesserec.decoders.ranking import NEVER, USER_BLOCK, Ranked, rank_under
from tesserec.decoders.scan_heap import sort_heaps
from tesserec.decoders.scan_kernels import count_blocks, rank_blocks
from tesserec.decoders.scan_side import beside, rank_side
from tesserec.decoders.scan_tables import BLOCK, finite, quantise, scores_of
from tesserec.errors import TesserecError, UsageError

SIDE_FROM = 8  # users from which the work side by side pays
THREAD_WORK = 1 << 25  # look-ups that each thread should have: a third of a ms, a start takes 0.1


class Scan:
    """Ranks the whole catalogue, exactly; ties go to the lowest row."""

    def __init__(self, codes: np.ndarray, codebook_size: int) -> None:
        """`codes` is the code table uint8/uint16 [N, m]; a copy in blocks is kept."""
        self.items, self.digits = codes.shape
        self.codebook_size = codebook_size
        self._codes = in_blocks(codes, BLOCK)
        self._every = self._open([])  # all rows, and none of those that fill the last block

    @classmethod
    def of(cls, model: Any, codes: Any) -> Scan:
        return cls(codes, model.shape.codebook_size)

    def to(self, device: torch.device) -> Scan:
        """Stays where it is.

        Raises:
            UsageError: another device than the CPU is asked for.
        """
        if device.type != "cpu":
            raise UsageError(f"decoder scan runs on the CPU, not on {device}; take exhaustive")
        return self

    def warm(self) -> None:
        """Compile, or read from disk, what ranking takes, so that no request waits for it."""
        state = torch.zeros(SIDE_FROM, self.digits, self.codebook_size)
        for users in (1, SIDE_FROM):
            some = np.zeros(1, np.int64)
            self.rank(state[:users], 1, Constraints(allow=[some] * users))
            self.rank(state[:users], 1, Constraints(deny=[some] * users))

    def rank(self, state: torch.Tensor, k: int, constraints: Constraints | None = None) -> Ranked:
        """See `ranking.rank_under`; state is log-probabilities [B, m, K].

        Raises:
            TesserecError: k below 1, a state that isn't finite, or constraints of another size.
        """
        tables = _floats(state)

        def top(users: list[int], k: int, rules: Constraints, only: np.ndarray | None) -> Ranked:
            part = tables if len(users) == len(tables) else tables[users]
            return self._top(part, k, rules, only)

        return rank_under(top, len(state), self.items, k, constraints)

    def target_ranks(
        self, state: torch.Tensor, targets: np.ndarray, seen: Sequence[np.ndarray]
    ) -> tuple[np.ndarray, np.ndarray]:
        """1-based rank of one item per user, seen items kept and dropped, int64 [B] each.

        Equal to the place in `rank`. 0: the target is no item (row -1), or it is itself among the
        seen, so that the dropped ranking never shows it.
        """
        tables = _floats(state)
        kept, dropped = np.zeros(len(tables), np.int64), np.zeros(len(tables), np.int64)
        for start in range(0, len(tables), USER_BLOCK):
            part = slice(start, start + USER_BLOCK)
            kept[part], dropped[part] = self._ranks(tables[part], targets[part], seen[part])
        return kept, dropped

    # ---- one block of users ----

    def _top(
        self, state: np.ndarray, k: int, rules: Constraints, only: np.ndarray | None
    ) -> Ranked:
        k = min(k, self.items)
        rows = np.full((len(state), k), -1, np.int64)
        scores = np.full((len(state), k), NEVER, np.float32)
        masks = [bits for bits in (rules.allowed, only) if bits is not None]
        open_ = self._open(masks) if masks else self._every
        deny = rules.deny if rules.deny is not None else [None] * len(state)
        allow = rules.allow if rules.allow is not None else [None] * len(state)
        listed = [user for user, rows_ in enumerate(allow) if rows_ is not None]
        for user in listed:
            best = self._best_of(state[user], k, allow[user], deny[user], open_)
            rows[user], scores[user] = best
        rest = sorted(set(range(len(state))) - set(listed))
        if rest and k:
            part = state if not listed else state[rest]
            rows[rest], scores[rest] = self._scan(part, k, open_, [deny[u] for u in rest])
        return rows, scores

    def _scan(
        self, state: np.ndarray, k: int, open_: np.ndarray, deny: Sequence[np.ndarray | None]
    ) -> Ranked:
        table, bounds = self._tables(state)
        starts, denied = _joined([within(r, self.items) for r in deny])
        side = len(state) >= SIDE_FROM and not (HAS_LOOKUP and self._codes.dtype == np.uint8)
        walk, table = (rank_side, beside(table)) if side else (rank_blocks, table)

        def part(first: int, stop: int) -> Ranked:
            scores = np.empty((len(state), k), np.float32)
            rows, filled = np.empty((len(state), k), np.int64), np.zeros(len(state), np.int64)
            out = (scores, rows, filled)
            walk(self._codes, first, stop, state, table, bounds, open_, starts, denied, out)
            sort_heaps(*out)
            return rows, scores

        found = self._in_threads(part, len(state))
        if len(found) == 1:
            return found[0]
        # parts come by rising rows, so that a stable order keeps ties right
        rows = np.concatenate([r for r, _ in found], axis=1)
        scores = np.concatenate([s for _, s in found], axis=1)
        order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
        return np.take_along_axis(rows, order, 1), np.take_along_axis(scores, order, 1)

    def _best_of(
        self,
        state: np.ndarray,
        k: int,
        allow: np.ndarray | None,
        deny: np.ndarray | None,
        open_: np.ndarray,
    ) -> Ranked:
        """The best of a list of rows, which is scored as it is, without a scan."""
        rows = np.setdiff1d(within(allow, self.items), within(deny, self.items))
        rows = rows[(open_.ravel()[rows >> 6] >> (rows & 63).astype(np.uint64)) & np.uint64(1) == 1]
        scores = self._scores([rows], state[None])
        order = np.argsort(-scores, kind="stable")[:k]
        missing = (0, k - len(order))
        return (
            np.pad(rows[order], missing, constant_values=-1),
            np.pad(scores[order], missing, constant_values=NEVER),
        )

    def _ranks(
        self, state: np.ndarray, targets: np.ndarray, seen: Sequence[np.ndarray]
    ) -> tuple[np.ndarray, np.ndarray]:
        known = (targets >= 0) & (targets < self.items)
        if not known.any():
            return np.zeros(len(targets), np.int64), np.zeros(len(targets), np.int64)
        target = np.where(known, targets, 0).astype(np.int64)
        own = self._scores(list(target[:, None]), state)
        table, bounds = self._tables(state)

        def part(first: int, stop: int) -> np.ndarray:
            above = np.zeros(len(state), np.int64)
            count_blocks(
                self._codes, first, stop, state, table, bounds, self._every, own, target, above
            )
            return above

        kept = np.sum(self._in_threads(part, len(state)), axis=0) + 1
        inside = [r[(r >= 0) & (r < self.items)] for r in (np.asarray(s, np.int64) for s in seen)]
        scores = self._scores(inside, state)
        user = np.repeat(np.arange(len(inside)), [len(r) for r in inside])
        row = np.concatenate(inside)
        ahead = (scores > own[user]) | ((scores == own[user]) & (row < target[user]))
        dropped = kept - np.bincount(user[ahead], minlength=len(kept))
        itself = np.zeros(len(kept), bool)
        itself[user[row == target[user]]] = True
        return np.where(known, kept, 0), np.where(known & ~itself, dropped, 0)

    # ---- parts ----

    def _tables(self, state: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        users, digits, codes = state.shape
        width = 256 if self._codes.dtype == np.uint8 else codes
        table = np.zeros((users, digits, width), np.uint8)
        bounds = np.empty((users, 3))
        quantise(state[:, :, :width], table, bounds)
        return table, bounds

    def _scores(self, rows: Sequence[np.ndarray], state: np.ndarray) -> np.ndarray:
        """float32: the scores of some rows of each user, joined."""
        starts, joined = _joined(rows)
        out = np.empty(len(joined), np.float32)
        scores_of(self._codes, state, starts, joined, out)
        return out

    def _open(self, masks: Sequence[np.ndarray]) -> np.ndarray:
        """uint64 [n, 4]: the items that all packed masks let pass, and none behind the last."""
        return open_bits(self.items, len(self._codes), BLOCK, masks).view("<u8").reshape(-1, 4)

    def _in_threads(self, part: Callable[[int, int], Any], users: int) -> list[Any]:
        """`part(first, stop)` of ranges of blocks, as many at once as torch may use threads."""
        blocks = len(self._codes)
        work = users * self.items * self.digits
        threads = max(1, min(torch.get_num_threads(), blocks, work // THREAD_WORK))
        if threads == 1:
            return [part(0, blocks)]
        edges = [blocks * i // threads for i in range(threads + 1)]
        with ThreadPoolExecutor(threads) as pool:
            return list(pool.map(part, edges[:-1], edges[1:]))


def _floats(state: torch.Tensor) -> np.ndarray:
    floats = np.ascontiguousarray(state.detach().cpu().numpy(), np.float32)
    if not finite(floats.ravel().view(np.int32)):
        raise TesserecError("the model's log-probabilities are not finite; its weights are bad")
    return floats


def _joined(lists: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """int64 lists behind one another, and where each starts (and the last ends)."""
    starts = np.zeros(len(lists) + 1, np.int64)
    np.cumsum([len(rows) for rows in lists], out=starts[1:])
    return starts, np.concatenate([np.empty(0, np.int64), *lists]).astype(np.int64, copy=False)
