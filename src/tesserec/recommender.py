"""The one thing that serving and evaluation know: histories of item ids in, ranked item ids out.

Reads a release with numpy, torch, pyarrow and safetensors alone.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from tesserec.decoders import make
from tesserec.decoders.constraints import Constraints
from tesserec.decoders.exhaustive import Exhaustive
from tesserec.decoders.scorers import VectorScorer
from tesserec.errors import ArtifactError
from tesserec.opening import Opened, open_release

BATCH = 256  # histories in one pass of the model
Spent = Callable[[str, float], None]  # stage (model, decode), seconds
HISTORY = 1000  # seen items that count as seen (the online store keeps as many)


class Recommender:
    """A model, its code table if it has one, its items and a decoder."""

    def __init__(
        self,
        model: Any,
        codes: np.ndarray | None,
        item_ids: Sequence[str],
        items: pa.Table | None = None,
        *,
        decoder: Mapping[str, Any] | None = None,
        release_id: str = "",
        opened: Opened | None = None,
    ) -> None:
        """`decoder`: a name and options, as of a run's section `decoder`; `saved`: a graph file.

        `opened`: what a release's folder was opened into.
        """
        if codes is not None and len(codes) != len(item_ids):
            raise ArtifactError(
                f"the code table has {len(codes)} rows, the item list {len(item_ids)}; "
                "they belong to different releases"
            )
        self.release_id = release_id
        self.item_ids = opened.item_ids if opened else list(item_ids)
        self.items = items if items is not None else pa.table({"item_id": pa.array(item_ids)})
        self.row_of = opened.row_of if opened else {i: row for row, i in enumerate(self.item_ids)}
        self.codes = codes
        self.hashes = opened.hashes if opened else {}
        self._model = model.eval()
        self._model.freeze()
        self._decoder: Any = opened.ranks if opened else None  # another's, of the same codes
        if self._decoder is None:
            self._decoder = make(**{"name": "auto", **(decoder or {})}, model=model, codes=codes)
        self._popularity = _popularity(self.items)

    @classmethod
    def of_parts(
        cls,
        model: Any,
        codes: np.ndarray | None,
        item_ids: Sequence[str],
        items: pa.Table | None = None,
        *,
        decoder: Mapping[str, Any] | None = None,
    ) -> Recommender:
        """A recommender of parts in memory, as the evaluation of a fresh model needs it."""
        return cls(model, codes, item_ids, items, decoder=decoder)

    @classmethod
    def load(cls, folder: Path, *, beside: Sequence[Recommender] = ()) -> Recommender:
        """Open a release folder; its parts may lie in ancestors beside it.

        Args:
            beside: recommenders in memory; equal parts are shared with them, not read again.

        Raises:
            ArtifactError: the release is incomplete, its parts don't belong together, or it asks
                for a model or a decoder that this version doesn't have.
        """
        opened = open_release(Path(folder), beside)
        return cls(
            opened.model,
            opened.codes,
            opened.item_ids,
            opened.items,
            decoder=opened.decoder,
            release_id=opened.release_id,
            opened=opened,
        )

    @property
    def model_name(self) -> str:
        return self._model.name

    @property
    def decoder(self) -> Any:
        return self._decoder

    @property
    def prefixes(self) -> bool:
        """Whether the best k are the first k of any longer ranking; not so of the graph's."""
        return getattr(self._decoder, "prefixes", True)

    def trained_models(self) -> dict[str, Any]:
        """The model, or the parts that it mixes, by name."""
        named = getattr(self._model, "named_parts", None)
        return named() if named else {self._model.name: self._model}

    def parts(self) -> dict[str, Recommender]:
        """Each part of a fusion as a recommender of its own; none of another model."""
        named = getattr(self._model, "named_parts", dict)()
        return {
            name: Recommender(
                part, self.codes if part.needs_codes else None, self.item_ids, self.items
            )
            for name, part in named.items()
        }

    # ---- asking ----

    def tells(self, rows: np.ndarray) -> bool:
        """Whether the model can tell anything from a history of these rows.

        Not from an empty one; and an identity model not from items that it was not trained on.
        """
        known = getattr(self._model, "known", None)
        return len(rows) > 0 and (known is None or bool(known()[rows].any()))

    def rows(self, history: Sequence[str]) -> np.ndarray:
        """Item ids -> rows, int64; ids that the release doesn't know are left out."""
        known = [self.row_of[item] for item in history if item in self.row_of]
        return np.array(known, dtype=np.int64)

    def recommend(
        self,
        histories: Sequence[Sequence[str]],
        k: int,
        constraints: Constraints | None = None,
        *,
        spent: Spent | None = None,
    ) -> tuple[list[list[str]], list[np.ndarray]]:
        """The k best items after each history (item ids, oldest first) and their scores.

        Fewer than k where the constraints leave fewer. A history from which the model can't tell
        anything is answered by `popular` under the same constraints. `spent` is told the seconds
        of each stage.
        """
        rows, scores = self.recommend_rows(
            [self.rows(h) for h in histories], k, constraints, spent=spent
        )
        return self._named(rows, scores)

    def state(self, histories: Sequence[Sequence[str]], *, spent: Spent | None = None) -> Any:
        """What the model makes of histories from which it can tell something, for `rank`.

        Users of one batch under different rules need it once.
        """
        began = time.perf_counter()
        state = self._model.state([self.rows(history) for history in histories])
        if spent is not None:
            spent("model", time.perf_counter() - began)
        return state

    def rank(
        self,
        state: Any,
        users: Sequence[int],
        k: int,
        constraints: Constraints | None = None,
        *,
        spent: Spent | None = None,
    ) -> tuple[list[list[str]], list[np.ndarray]]:
        """As `recommend`, for some users of a state (the constraints are theirs alone)."""
        began = time.perf_counter()
        rules = constraints or Constraints()
        rules.check(len(users), len(self.item_ids))
        rows, scores = self._decoder.rank(_of_users(state, list(users)), k, rules)
        if spent is not None:
            spent("decode", time.perf_counter() - began)
        return self._named(rows, scores)

    def recommend_rows(
        self,
        histories: Sequence[np.ndarray],
        k: int,
        constraints: Constraints | None = None,
        *,
        spent: Spent | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """`recommend` in item rows: int64 [B, k] padded with -1, scores float32 [B, k]."""
        rules = constraints or Constraints()
        rules.check(len(histories), len(self.item_ids))
        rows = np.full((len(histories), k), -1, dtype=np.int64)
        scores = np.full((len(histories), k), -np.inf, dtype=np.float32)
        asked = [i for i, h in enumerate(histories) if self.tells(h)]
        for start in range(0, len(asked), BATCH):
            users = asked[start : start + BATCH]
            began = time.perf_counter()
            state = self._model.state([histories[u] for u in users])
            between = time.perf_counter()
            rows[users], scores[users] = self._decoder.rank(state, k, rules.of(users))
            if spent is not None:
                spent("model", between - began)
                spent("decode", time.perf_counter() - between)
        rest = sorted(set(range(len(histories))).difference(asked))
        if rest:
            rows[rest], scores[rest] = self._popular_rows(k, rules.of(rest), len(rest))
        return rows, scores

    def warm(self) -> None:
        """Compile what model and decoder compile, so that no request waits for it."""
        self._model.warm()
        warm = getattr(self._decoder, "warm", None)
        if warm is not None:
            warm()

    def popular(
        self, k: int, constraints: Constraints | None = None
    ) -> tuple[list[str], np.ndarray]:
        """The k most popular allowed items (events of the last 30 days, then of all time)."""
        rows, scores = self._popular_rows(k, constraints or Constraints(), 1)
        valid = rows[0] >= 0
        return [self.item_ids[i] for i in rows[0][valid].tolist()], scores[0][valid]

    def target_ranks(
        self, histories: Sequence[np.ndarray], targets: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Ranks of one target row per history, seen items kept and dropped.

        An empty history gets rank 0: it isn't this model that would answer it.
        """
        kept = np.zeros(len(histories), dtype=np.int64)
        dropped = np.zeros(len(histories), dtype=np.int64)
        asked = [i for i, h in enumerate(histories) if len(h)]
        for start in range(0, len(asked), BATCH):
            users = asked[start : start + BATCH]
            part = [histories[u] for u in users]
            state = self._model.state(part)
            seen = [seen_rows(h) for h in part]
            kept[users], dropped[users] = self._decoder.target_ranks(state, targets[users], seen)
        return kept, dropped

    def _named(
        self, rows: np.ndarray, scores: np.ndarray
    ) -> tuple[list[list[str]], list[np.ndarray]]:
        """Item ids and scores without the places that stayed empty."""
        valid = [r >= 0 for r in rows]
        ids = [[self.item_ids[i] for i in r[v].tolist()] for r, v in zip(rows, valid, strict=True)]
        return ids, [s[v] for s, v in zip(scores, valid, strict=True)]

    def _popular_rows(
        self, k: int, rules: Constraints, users: int
    ) -> tuple[np.ndarray, np.ndarray]:
        everyone = torch.ones(users, 1)
        scorer = VectorScorer(torch.from_numpy(self._popularity)[:, None])
        return Exhaustive(scorer).rank(everyone, k, rules)


def seen_rows(history: np.ndarray, limit: int = HISTORY) -> np.ndarray:
    """The distinct items of a history, at most the `limit` most recent ones."""
    _, first = np.unique(history[::-1], return_index=True)
    return history[::-1][np.sort(first)[:limit]]


def _of_users(state: Any, users: list[int]) -> Any:
    """The part of a state (a tensor [B, ...], or a tuple of such) that is of these users."""
    if isinstance(state, torch.Tensor):
        return state[users]
    return tuple(_of_users(part, users) for part in state)


def _popularity(items: pa.Table) -> np.ndarray:
    """float32 [N]: events of the last 30 days, and as the fraction events of all time."""
    zeros = np.zeros(items.num_rows)

    def column(name: str) -> np.ndarray:
        if name not in items.column_names:
            return zeros
        filled = items.column(name).combine_chunks().fill_null(0)
        return np.asarray(filled.to_numpy(zero_copy_only=False), dtype=np.float64)

    recent, ever = column("count_30d"), column("count_all")
    return (recent + ever / (ever.max(initial=0.0) + 1.0)).astype(np.float32)
