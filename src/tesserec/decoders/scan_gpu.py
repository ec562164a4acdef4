"""Exact decoding by a scan of the codes on a GPU; docs/decoding.md has the method and why it holds.

One kernel leaves each user's best score of every block of items. The k blocks that lead by it hold
the k best items; only they are scored again, item by item. What is sparse (rows that one user must
not get) is put right in the few blocks that it lies in. Results are copied to the host in one go.
Legend of shapes: N items, m digits, K codes a digit, B users, n blocks, C candidates a user.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from tesserec.decoders import scan_gpu_kernels as kernels
from tesserec.decoders.blocks import open_bits, within
from tesserec.decoders.constraints import Constraints
from tesserec.decoders.ranking import NEVER, USER_BLOCK, Ranked, rank_under
from tesserec.decoders.scan_gpu_kernels import side_by_side, words_of
from tesserec.errors import ArtifactError, TesserecError, UsageError

BLOCK = 1024  # items that a program scores
CANDIDATES = 1 << 22  # items scored one by one at once: bounds memory, some 60 bytes each

Best = tuple[torch.Tensor, torch.Tensor]  # rows int64 and scores float32, both [B, k]


class ScanGPU:
    """Ranks the whole catalogue, exactly; ties go to the lowest row."""

    def __init__(self, codes: np.ndarray, codebook_size: int) -> None:
        """`codes` is the code table uint8/uint16 [N, m]; a copy in blocks is kept.

        Raises:
            ArtifactError: a code that is no place of a table, which a GPU would read all the same.
        """
        self.items, self.digits = codes.shape
        self.codebook_size = codebook_size
        if codes.size and (largest := int(codes.max())) >= codebook_size:
            raise ArtifactError(
                f"the code table holds {largest}, its codebooks end at {codebook_size - 1}; "
                "model and codes belong to different releases"
            )
        self._codes, self._device = words_of(codes, BLOCK), torch.device("cpu")
        self._blocks, _, self._size = self._codes.words.shape
        self._every = self._open([])

    @classmethod
    def of(cls, model: Any, codes: Any) -> ScanGPU:
        return cls(codes, model.shape.codebook_size)

    def to(self, device: torch.device) -> ScanGPU:
        """Raises UsageError if the device is no GPU of CUDA."""
        if device.type != "cuda":
            raise UsageError(f"decoder scan_gpu runs on a GPU, not on {device}; take auto")
        self._codes, self._every = self._codes.to(device), self._every.to(device)
        self._device = device
        return self

    def warm(self) -> None:
        """Compile what ranking takes, so that no request waits for it."""
        for users in (1, 2):
            state = torch.zeros(users, self.digits, self.codebook_size)
            self.rank(state, 1, Constraints(deny=[np.zeros(1, np.int64)] * users))

    def rank(self, state: torch.Tensor, k: int, constraints: Constraints | None = None) -> Ranked:
        """See `ranking.rank_under`; state is log-probabilities [B, m, K].

        Raises:
            TesserecError: k below 1, a state of another shape or that isn't finite, or constraints
                of another size.
        """
        state = self._checked(state)

        def top(users: list[int], k: int, rules: Constraints, only: np.ndarray | None) -> Ranked:
            part = state if len(users) == len(state) else state[users]
            return self._top(part, k, rules, only)

        return rank_under(top, len(state), self.items, k, constraints)

    def target_ranks(
        self, state: torch.Tensor, targets: np.ndarray, seen: Sequence[np.ndarray]
    ) -> tuple[np.ndarray, np.ndarray]:
        """1-based rank of one item per user, seen items kept and dropped, int64 [B] each.

        Equal to the place in `rank`. 0: the target is no item (row -1), or it is itself among the
        seen, so that the dropped ranking never shows it.
        """
        state = self._checked(state)
        kept, dropped = np.zeros(len(state), np.int64), np.zeros(len(state), np.int64)
        for start in range(0, len(state), USER_BLOCK):
            part = slice(start, start + USER_BLOCK)
            kept[part], dropped[part] = self._ranks(state[part], targets[part], seen[part])
        return kept, dropped

    # ---- one block of users ----

    def _top(
        self, state: torch.Tensor, k: int, rules: Constraints, only: np.ndarray | None
    ) -> Ranked:
        k, users = min(k, self.items), len(state)
        masks = [bits for bits in (rules.allowed, only) if bits is not None]
        open_ = self._open(masks) if masks else self._every
        deny = rules.deny if rules.deny is not None else [None] * users
        allow = rules.allow if rules.allow is not None else [None] * users
        denied = [within(some, self.items) for some in deny]
        listed = [user for user, some in enumerate(allow) if some is not None]
        rest = sorted(set(range(users)) - set(listed))
        rows = torch.full((users, k), -1, device=state.device)
        scores = torch.full((users, k), NEVER, device=state.device)
        for user in listed:
            some = np.setdiff1d(within(allow[user], self.items), denied[user])
            rows[user], scores[user] = self._of_list(state[user : user + 1], k, some, open_)
        if rest and k:
            part = rest if listed else slice(None)
            best = self._scan(state[part], k, open_, [denied[user] for user in rest])
            rows[part], scores[part] = best
        return _on_host(rows, scores, state)

    def _scan(
        self, state: torch.Tensor, k: int, open_: torch.Tensor, denied: Sequence[np.ndarray]
    ) -> Best:
        tables, users = side_by_side(state, self._codes), len(state)
        maxima = kernels.maxima(self._codes, tables, open_)[:users]
        keys, pairs = self._keys(denied)
        for part in pairs.split(max(1, CANDIDATES // self._size)):
            rows = self._rows(part[:, None] % self._blocks)
            scores = self._masked(tables, part // self._blocks, rows, open_, keys)
            maxima.view(-1)[part] = scores.amax(1)
        # rising blocks, so that a lower place is a lower row
        chosen = torch.sort(_leading(maxima, min(k, self._blocks))).values
        everyone, best = torch.arange(users, device=state.device), []
        for part in everyone.split(max(1, CANDIDATES // (chosen.shape[1] * self._size))):
            rows = self._rows(chosen[part])
            best.append(_best(self._masked(tables, part, rows, open_, keys), rows, k))
        return torch.cat([rows for rows, _ in best]), torch.cat([scores for _, scores in best])

    def _of_list(self, state: torch.Tensor, k: int, rows: np.ndarray, open_: torch.Tensor) -> Best:
        """The best of one user's list of rows."""
        user, listed = self._here(np.zeros(1, np.int64)), self._here(rows)[None]
        return _best(
            self._masked(side_by_side(state, self._codes), user, listed, open_, None), listed, k
        )

    def _ranks(
        self, state: torch.Tensor, targets: np.ndarray, seen: Sequence[np.ndarray]
    ) -> tuple[np.ndarray, np.ndarray]:
        known = (targets >= 0) & (targets < self.items)
        if not known.any():
            return np.zeros(len(targets), np.int64), np.zeros(len(targets), np.int64)
        target = np.where(known, targets, 0).astype(np.int64)
        inside = [r[(r >= 0) & (r < self.items)] for r in (np.asarray(s, np.int64) for s in seen)]
        row, user = np.concatenate(inside), np.repeat(np.arange(len(seen)), [*map(len, inside)])
        above, seen_above = self._above(state, target, user, row)
        kept, dropped = above + 1, above - seen_above + 1
        itself = np.zeros(len(target), bool)
        itself[user[row == target[user]]] = True
        return np.where(known, kept, 0), np.where(known & ~itself, dropped, 0)

    def _above(
        self, state: torch.Tensor, targets: np.ndarray, users: np.ndarray, rows: np.ndarray
    ) -> np.ndarray:
        """int64 [2, B]: how many items stand before each target; how many of (user, row) do."""
        tables = side_by_side(state, self._codes)
        target, user, row = self._here(targets), self._here(users), self._here(rows)
        everyone = torch.arange(len(state), device=state.device)
        own = kernels.scores(self._codes, tables, everyone, target[:, None])[:, 0]
        every = kernels.ahead(self._codes, tables, self._every, own, target)
        above = every[: len(state)].sum(1)
        scores = kernels.scores(self._codes, tables, user, row[:, None])[:, 0]
        ahead = (scores > own[user]) | ((scores == own[user]) & (row < target[user]))
        some = torch.zeros_like(above).index_add_(0, user, ahead.to(above.dtype))
        return torch.stack([above, some]).cpu().numpy()

    # ---- parts ----

    def _masked(
        self,
        tables: torch.Tensor,
        users: torch.Tensor,
        rows: torch.Tensor,
        open_: torch.Tensor,
        keys: torch.Tensor | None,
    ) -> torch.Tensor:
        """Scores float32 [P, C] of rows [P, C] for users [P]; -inf where the rules say no."""
        closed = (open_[rows >> 3] >> (rows & 7)) & 1 == 0
        if keys is not None:
            asked = users[:, None] * (self._blocks * self._size) + rows
            place = torch.searchsorted(keys, asked).clamp_(max=len(keys) - 1)
            closed |= keys[place] == asked
        return kernels.scores(self._codes, tables, users, rows).masked_fill_(closed, NEVER)

    def _keys(self, denied: Sequence[np.ndarray]) -> tuple[torch.Tensor | None, torch.Tensor]:
        """Denied rows as user * n * BLOCK + row, sorted, and their blocks as user * n + block."""
        span = self._blocks * self._size
        keys = np.concatenate([user * span + rows for user, rows in enumerate(denied)])
        pairs = self._here(np.unique(keys // self._size))
        return self._here(keys) if len(keys) else None, pairs

    def _rows(self, blocks: torch.Tensor) -> torch.Tensor:
        """int64 [P, C]: the rows of the items of blocks [P, C / BLOCK]."""
        place = torch.arange(self._size, device=blocks.device)
        return (blocks[:, :, None] * self._size + place).flatten(1)

    def _open(self, masks: Sequence[np.ndarray]) -> torch.Tensor:
        bits = open_bits(self.items, self._blocks, self._size, masks)
        return torch.from_numpy(bits).to(self._device)

    def _here(self, numbers: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(numbers).to(self._device)

    def _checked(self, state: torch.Tensor) -> torch.Tensor:
        if state.shape[1:] != (self.digits, self.codebook_size):
            raise TesserecError(
                f"the state's tables are {tuple(state.shape[1:])}, the codes take "
                f"({self.digits}, {self.codebook_size}); model and codes don't belong together"
            )
        return state.detach().to(self._device, torch.float32)


def _leading(scores: torch.Tensor, k: int) -> torch.Tensor:
    """Places int64 [B, k] of the largest of [B, C], best first; among equals the lower place.

    `torch.topk` promises nothing about equals, and to look for them would stop the device. So it
    gets whole numbers of 64 bits that are never equal: the score's bits above the place's.
    """
    bits = (scores + 0.0).view(torch.int32)  # -0.0 is 0.0
    rising = torch.where(bits < 0, bits ^ 0x7FFFFFFF, bits).long()
    place = torch.arange(scores.shape[1], device=scores.device)
    keys = (rising << 32) | (0x7FFFFFFF - place)
    return 0x7FFFFFFF - (torch.topk(keys, k, dim=1).values & 0x7FFFFFFF)


def _best(scores: torch.Tensor, rows: torch.Tensor, k: int) -> Best:
    """The k best of candidates [B, C] in rising rows; -1 and -inf where there are fewer."""
    order = _leading(scores, min(k, scores.shape[1]))
    missing = (0, k - order.shape[1])
    scores, rows = (
        scores.gather(1, order),
        rows.gather(1, order).masked_fill(scores.gather(1, order) == NEVER, -1),
    )
    return F.pad(rows, missing, value=-1), F.pad(scores, missing, value=NEVER)


def _on_host(rows: torch.Tensor, scores: torch.Tensor, state: torch.Tensor) -> Ranked:
    """Rows, scores, and whether each user's state was finite, in one copy.

    Raises:
        TesserecError: it wasn't.
    """
    finite = torch.isfinite(state).flatten(1).all(1, keepdim=True)
    packed = torch.cat([rows, scores.view(torch.int32).long(), finite.long()], dim=1).cpu()
    if not bool(packed[:, -1].all()):
        raise TesserecError("the model's log-probabilities are not finite; its weights are bad")
    k = rows.shape[1]
    return packed[:, :k].numpy(), packed[:, k:-1].int().view(torch.float32).numpy()
