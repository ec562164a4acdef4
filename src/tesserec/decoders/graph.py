"""The graph decoder (Hou et al., KDD 2025, arXiv 2506.05781): a walk over items that are alike.

It begins at fixed items, scores the neighbours of the best ones found so far, and stops after some
steps or when nothing better turns up. What it answers depends on nothing random. It is approximate:
docs/decoding.md says when that is worth it. Legend of shapes: N items, m digits, K codes a digit,
k edges, B users.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tesserec.decoders.blocks import open_bits
from tesserec.decoders.constraints import Constraints, count_bits
from tesserec.decoders.graph_build import Similarity, build_edges, insert_edges
from tesserec.decoders.graph_files import read_graph, sha_of, write_graph
from tesserec.decoders.graph_walk import rank_users, target_ranks
from tesserec.decoders.ranking import NEVER, Ranked, rank_under, require_finite
from tesserec.errors import ArtifactError, UsageError

STARTS = 1024  # items that every walk begins at; scoring them costs as much as ten neighbourhoods
SPARSE = 0.1  # a mask that leaves a smaller share is decoded exactly: a walk would find too few
USERS_PER_THREAD = 8  # below this a second thread costs more than it saves

Lists = tuple[np.ndarray, np.ndarray]  # bounds int64 [B + 1], rows int64: a list for each user


class GraphDecoder:
    """Ranks what a walk over the graph visits; users for whom that is too little are scanned."""

    prefixes = False  # a longer list has a wider walk, which may find other items

    def __init__(
        self,
        codes: np.ndarray,
        edges: np.ndarray,
        exact: Any,
        *,
        starts: np.ndarray | None = None,
        beam: int = 50,
        steps: int = 3,
        made_for: str = "",
    ) -> None:
        """Codes [N, m], edges int32 [N, k] with -1 for none, `exact` an exact decoder.

        `starts`: rows that walks begin at; None: spread evenly over the catalogue. `made_for`: the
        hash of the token vectors that the edges stem from; a saved graph carries it.
        """
        self.items = len(codes)
        if len(edges) != self.items:
            raise ArtifactError(
                f"the graph has {len(edges)} items, the code table {self.items}; take both of one "
                "release, or insert the new items"
            )
        self.made_for = made_for
        self.beam, self.steps, self.edges = beam, steps, np.ascontiguousarray(edges)
        self._codes, self._exact = np.ascontiguousarray(codes), exact
        even = np.unique(np.linspace(0, max(self.items - 1, 0), STARTS).astype(np.int64))
        self.starts = even[: self.items] if starts is None else np.asarray(starts, dtype=np.int64)
        self.walks = self.visited = self.fallbacks = 0  # users, items, users scanned after all

    @classmethod
    def of(
        cls,
        model: Any,
        codes: np.ndarray,
        *,
        edges: int = 100,
        beam: int = 50,
        steps: int = 3,
        saved: Path | None = None,
    ) -> GraphDecoder:
        """For a model with `tokens` [m, K, d]: of the graph file `saved`, else of one built now.

        Items that the code table has got since the graph was saved are inserted; `edges` counts
        for a graph that is built.

        Raises:
            ArtifactError: the file is missing, damaged, or made for other codes or another model.
        """
        made_for = _tokens_sha(model)
        if saved is None:
            graph, starts = build_edges(codes, Similarity.of(model.tokens), edges), None
        else:
            graph, starts = read_graph(saved, codes, made_for)
            if len(graph) < len(codes):
                graph = insert_edges(graph, codes, Similarity.of(model.tokens))
        exact = _exact(model, codes)
        return cls(codes, graph, exact, starts=starts, beam=beam, steps=steps, made_for=made_for)

    def start_at(self, popularity: np.ndarray) -> GraphDecoder:
        """Begin walks at the most popular items; `popularity` is a number an item, [N]."""
        self.starts = np.argsort(-popularity, kind="stable")[:STARTS].astype(np.int64)
        return self

    def to(self, device: torch.device) -> GraphDecoder:
        """Stays where it is.

        Raises:
            UsageError: another device than the CPU is asked for.
        """
        if device.type != "cpu":
            raise UsageError(f"decoder graph runs on the CPU, not on {device}; take exhaustive")
        return self

    def warm(self) -> None:
        """Compile, or read from disk, what ranking takes, so that no request waits for it."""
        if hasattr(self._exact, "warm"):
            self._exact.warm()
        state = torch.zeros(1, self._codes.shape[1], int(self._codes.max(initial=0)) + 1)
        self.rank(state, 1)
        self.target_ranks(state, np.zeros(1, np.int64), [np.empty(0, np.int64)])
        self.walks = self.visited = self.fallbacks = 0

    # ---- asking ----

    def rank(
        self,
        state: torch.Tensor,
        k: int,
        constraints: Constraints | None = None,
        starts: Sequence[np.ndarray] | None = None,
    ) -> Ranked:
        """See `ranking.rank_under`; state is log-probabilities [B, m, K].

        Forbidden items are walked through, but never come out. The exact decoder answers a user for
        whom fewer than k items are found or who has a list of allowed items, and everyone if a mask
        leaves less than a tenth of the catalogue. `starts`: rows for each user to begin at, such as
        the history, beside the fixed ones.

        Raises:
            TesserecError: k below 1, a state that isn't finite, or constraints of another size.
        """
        require_finite(state)
        tables = np.ascontiguousarray(state.detach().cpu().numpy(), np.float32)

        def top(users: list[int], k: int, rules: Constraints, only: np.ndarray | None) -> Ranked:
            own = [starts[user] for user in users] if starts is not None else None
            return self._top(tables[users], min(k, self.items), rules, only, own)

        return rank_under(top, len(tables), self.items, k, constraints)

    def target_ranks(
        self, state: torch.Tensor, targets: np.ndarray, seen: Sequence[np.ndarray]
    ) -> tuple[np.ndarray, np.ndarray]:
        """1-based rank of one item per user, seen items kept and dropped, int64 [B] each.

        0: the target is no item, the walk doesn't reach it, or (dropped) it is itself seen.
        """
        require_finite(state)
        tables = np.ascontiguousarray(state.detach().cpu().numpy(), np.float32)
        kept, dropped = np.zeros((2, len(tables)), dtype=np.int64)
        targets = np.asarray(targets, dtype=np.int64)

        def part(users: slice) -> None:
            begin = self._starts(None, users, len(tables))
            not_these = _lists([np.unique(s) for s in seen[users]])
            graph, rows = (self._codes, self.edges), targets[users]
            out = kept[users], dropped[users]
            target_ranks(tables[users], graph, begin, self.beam, self.steps, rows, not_these, *out)

        _spread(part, len(tables))
        return kept, dropped

    # ---- one block of users ----

    def _top(
        self,
        tables: np.ndarray,
        k: int,
        rules: Constraints,
        only: np.ndarray | None,
        starts: Sequence[np.ndarray] | None,
    ) -> Ranked:
        users = len(tables)
        rows = np.full((users, k), -1, dtype=np.int64)
        scores = np.full((users, k), NEVER, dtype=np.float32)
        tally = np.zeros((users, 2), dtype=np.int64)
        masks = [bits for bits in (rules.allowed, only) if bits is not None]
        open_ = open_bits(self.items, 1, -(-self.items // 8) * 8, masks)
        deny = [
            np.empty(0, int) if r is None else np.unique(r) for r in rules.deny or [None] * users
        ]
        listed = np.array([r is not None for r in rules.allow or [None] * users], dtype=bool)
        if masks and count_bits(open_) < SPARSE * self.items:
            listed[:] = True

        def part(some: slice) -> None:
            rank_users(
                tables[some],
                (self._codes, self.edges),
                self._starts(starts, some, users),
                max(self.beam, k),
                self.steps,
                open_,
                _lists(deny[some]),
                (rows[some], scores[some]),
                tally[some],
            )

        if k and not listed.all():
            _spread(part, users)
        short = tally[:, 1] < k
        self.walks += int((~listed).sum())
        self.visited += int(tally[~listed, 0].sum())
        self.fallbacks += int((short & ~listed).sum())
        again = np.flatnonzero(short | listed)
        if k and len(again):
            exact = Constraints(
                allowed=open_,
                deny=None if rules.deny is None else [rules.deny[user] for user in again.tolist()],
                allow=None
                if rules.allow is None
                else [rules.allow[user] for user in again.tolist()],
            )
            state = torch.from_numpy(tables[again])
            rows[again], scores[again] = self._exact.rank(state, k, exact)
        return rows, scores

    def _starts(self, own: Sequence[np.ndarray] | None, some: slice, users: int) -> Lists:
        if own is None:
            return _lists([self.starts] * len(range(*some.indices(users))))
        joined = [np.concatenate([self.starts, np.asarray(r, dtype=np.int64)]) for r in own[some]]
        return _lists([r[(r >= 0) & (r < self.items)] for r in joined])

    # ---- new items, files ----

    def insert(self, model: Any, codes: np.ndarray) -> GraphDecoder:
        """A decoder for a grown code table, whose first N rows are the present one."""
        if not np.array_equal(codes[: self.items], self._codes):
            raise ArtifactError(
                f"the first {self.items} rows of the new code table aren't those of the graph; "
                "items keep their rows: build the graph anew for other codes"
            )
        grown = insert_edges(self.edges, codes, Similarity.of(model.tokens))
        return GraphDecoder(
            codes,
            grown,
            _exact(model, codes),
            starts=self.starts,
            beam=self.beam,
            steps=self.steps,
            made_for=_tokens_sha(model),
        )

    def save(self, path: Path) -> None:
        """Write the graph, which `of` reads; equal graphs give equal bytes."""
        write_graph(path, self.edges, self.starts, self._codes, self.made_for)


def _tokens_sha(model: Any) -> str:
    return sha_of(model.tokens.detach().float().cpu().numpy())


def _exact(model: Any, codes: np.ndarray) -> Any:
    from tesserec.decoders.making import make  # it knows this module by name

    return make("auto", model, codes)


def _lists(rows: Sequence[np.ndarray]) -> Lists:
    bounds = np.zeros(len(rows) + 1, dtype=np.int64)
    np.cumsum([len(r) for r in rows], out=bounds[1:])
    return bounds, np.concatenate([np.empty(0, np.int64), *rows]).astype(np.int64, copy=False)


def _spread(part: Callable[[slice], None], users: int) -> None:
    """Do parts of a batch on torch's number of threads; walks let go of Python's lock."""
    threads = max(1, min(torch.get_num_threads(), users // USERS_PER_THREAD))
    edges = [users * i // threads for i in range(threads + 1)]
    parts = [slice(a, b) for a, b in pairwise(edges)]
    if threads == 1:
        return part(parts[0])
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(part, parts))
