"""What every model has to beat: popularity and item-kNN, ranked by the same protocol."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tesserec.errors import need
from tesserec.evaluation.counts import training_counts
from tesserec.recommender import seen_rows

NEIGHBOURS = 200  # kept for each item
SHRINKAGE = 5.0  # co-occurrences of few users count less: c / (sqrt(a b) + 5)
_BLOCK = 256  # users scored at once


class Popularity:
    """The same ranking for everybody: training occurrences, ties to the lowest row."""

    name = "popularity"

    def __init__(self, sequences: Sequence[np.ndarray], items: int) -> None:
        """`sequences` are training sequences of item rows."""
        order = np.argsort(-training_counts(sequences, items), kind="stable")
        self._place = np.empty(items, dtype=np.int64)
        self._place[order] = np.arange(items)

    def target_ranks(
        self, histories: Sequence[np.ndarray], targets: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """1-based rank of one target row per history, seen items kept and dropped; 0: never."""
        kept = np.where(targets >= 0, self._place[targets] + 1, 0)
        dropped = kept.copy()
        for index, history in enumerate(histories):
            seen = seen_rows(history)
            ahead = int((self._place[seen] < kept[index] - 1).sum())
            dropped[index] = 0 if targets[index] in seen else max(kept[index] - ahead, 0)
        return kept, dropped


class ItemKNN:
    """Cosine of items over users, shrunk; a history's score for an item is the sum over its items.

    An item isn't its own neighbour. Equal scores (most are 0) go by popularity.
    """

    name = "item_knn"

    def __init__(
        self,
        sequences: Sequence[np.ndarray],
        items: int,
        *,
        neighbours: int = NEIGHBOURS,
        shrinkage: float = SHRINKAGE,
    ) -> None:
        self.items = items
        counts = training_counts(sequences, items).astype(np.float64)
        self._tie_break = (counts / (counts.max(initial=0.0) + 1.0) * 1e-6).astype(np.float32)
        self._similar = _similarities(sequences, items, neighbours, shrinkage)

    def target_ranks(
        self, histories: Sequence[np.ndarray], targets: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """As Popularity.target_ranks."""
        kept = np.zeros(len(histories), dtype=np.int64)
        dropped = np.zeros(len(histories), dtype=np.int64)
        for start in range(0, len(histories), _BLOCK):
            part = slice(start, min(start + _BLOCK, len(histories)))
            seen = [seen_rows(h) for h in histories[part]]
            kept[part], dropped[part] = ranks_of(self._scores(seen), targets[part], seen)
        return kept, dropped

    def _scores(self, seen: Sequence[np.ndarray]) -> np.ndarray:
        """float32 [B, N]"""
        users = _incidence(seen, self.items)
        return (users @ self._similar).toarray() + self._tie_break


def ranks_of(
    scores: np.ndarray, targets: np.ndarray, seen: Sequence[np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """Ranks of targets in dense scores [B, N], seen kept and dropped; ties: lowest row first."""
    known = targets >= 0
    safe = np.where(known, targets, 0)
    own = scores[np.arange(len(scores)), safe][:, None]
    ahead = scores > own
    ahead |= (scores == own) & (np.arange(scores.shape[1]) < safe[:, None])
    kept = ahead.sum(axis=1) + 1
    dropped = kept - np.array([int(a[s].sum()) for a, s in zip(ahead, seen, strict=True)])
    itself = np.array([t in s for t, s in zip(targets.tolist(), seen, strict=True)], dtype=bool)
    return np.where(known, kept, 0), np.where(known & ~itself, dropped, 0)


def _incidence(sequences: Sequence[np.ndarray], items: int) -> Any:
    """Sparse 0/1 float32 [U, N]: who had what."""
    try:
        from scipy import sparse
    except ImportError:
        raise need("scipy", "train") from None

    lengths = [len(s) for s in sequences]
    users = np.repeat(np.arange(len(sequences)), lengths)
    rows = np.concatenate([*sequences, np.empty(0, dtype=np.int64)])
    ones = np.ones(len(rows), dtype=np.float32)
    matrix = sparse.csr_matrix((ones, (users, rows)), shape=(len(sequences), items))
    matrix.data[:] = 1.0  # an item had twice counts once
    return matrix


def _similarities(
    sequences: Sequence[np.ndarray], items: int, neighbours: int, shrinkage: float
) -> Any:
    """Sparse float32 [N, N]; row i holds item i's nearest, by blocks of rows, never dense N x N."""
    from scipy import sparse

    users = _incidence(sequences, items)
    norm = np.sqrt(np.asarray(users.sum(axis=0)).ravel())
    by_item = users.T.tocsr()
    blocks = []
    for start in range(0, items, 1024):
        common = (by_item[start : start + 1024] @ users).tocoo()
        same = common.row + start == common.col
        value = common.data / (norm[common.row + start] * norm[common.col] + shrinkage)
        value[same] = 0.0
        block = sparse.csr_matrix((value, (common.row, common.col)), shape=common.shape)
        blocks.append(_nearest(block, neighbours))
    return sparse.vstack(blocks, format="csr") if blocks else sparse.csr_matrix((items, items))


def _nearest(block: Any, count: int) -> Any:
    """Keep the `count` largest of each row; among equals the lower column."""
    block.sort_indices()
    block.eliminate_zeros()
    for row in range(block.shape[0]):
        values = block.data[block.indptr[row] : block.indptr[row + 1]]
        if len(values) > count:
            values[np.argsort(-values, kind="stable")[count:]] = 0.0
    block.eliminate_zeros()
    return block.astype(np.float32)
