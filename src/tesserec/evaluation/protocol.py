"""The protocol: one case a user, full ranking over all items, seen items kept and dropped.

"Seen" is the distinct items of the history, at most the 1,000 most recent, as online.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from tesserec.data.splits import Split
from tesserec.evaluation.bootstrap import interval, paired_difference
from tesserec.evaluation.counts import training_counts
from tesserec.evaluation.metrics import means, ndcg
from tesserec.evaluation.slices import by_frequency

DEPTH = 50  # ranks beyond it are written as 0


class Ranker(Protocol):
    """What can be evaluated: the recommender and the baselines."""

    def target_ranks(
        self, histories: Sequence[np.ndarray], targets: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]: ...


@dataclass(frozen=True)
class Cases:
    """Who is asked what."""

    users: list[str]
    histories: list[np.ndarray]  # int64 item rows, oldest first; unknown items left out
    targets: np.ndarray  # int64 [U] item rows; -1: the target is not in the catalogue
    frequency: np.ndarray  # int64 [U] occurrences of the target in training

    def __len__(self) -> int:
        return len(self.users)


@dataclass(frozen=True)
class Ranks:
    """Ranks of the targets, 1-based, int64 [U]; 0: never shown."""

    kept: np.ndarray
    dropped: np.ndarray


def training_sequences(split: Split, row_of: Mapping[str, int]) -> list[np.ndarray]:
    """Each user's training events as item rows."""
    return [
        _rows(items[:end], row_of)
        for items, end in zip(split.items, split.train_end.tolist(), strict=True)
    ]


def cases(
    split: Split,
    row_of: Mapping[str, int],
    frequency: np.ndarray,
    *,
    part: str = "test",
    users: int = 0,
    seed: int = 0,
) -> Cases:
    """The validation or test cases of a split.

    Args:
        frequency: training occurrences of each item, int64 [N].
        part: "valid" or "test".
        users: at most so many, a fixed draw by `seed`; 0 takes all.
    """
    at = split.valid_at if part == "valid" else split.test_at
    chosen = np.flatnonzero(at >= 0)
    if users and len(chosen) > users:
        chosen = np.sort(np.random.default_rng(seed).choice(chosen, users, replace=False))
    targets = np.array(
        [row_of.get(split.items[u][at[u]], -1) for u in chosen.tolist()], dtype=np.int64
    )
    return Cases(
        users=[split.users[u] for u in chosen.tolist()],
        histories=[_rows(split.items[u][: at[u]], row_of) for u in chosen.tolist()],
        targets=targets,
        frequency=np.where(targets >= 0, frequency[targets], 0),
    )


def rank(ranker: Ranker, asked: Cases) -> Ranks:
    """Ask a ranker all cases."""
    return Ranks(*ranker.target_ranks(asked.histories, asked.targets))


def validation_metrics(ranker: Ranker, asked: Cases) -> dict[str, float]:
    """What picks the best epoch: metrics with seen items kept."""
    return means(rank(ranker, asked).kept)


def evaluate(
    asked: Cases, ours: Ranks, baselines: Mapping[str, Ranks], *, resamples: int, seed: int
) -> dict[str, Any]:
    """The metric table: ours with intervals and slices, the baselines, and paired differences."""
    return {
        "users": len(asked),
        "kept": _with_interval(ours.kept, resamples, seed),
        "dropped": _with_interval(ours.dropped, resamples, seed),
        "slices": by_frequency(ours.kept, ours.dropped, asked.frequency),
        "baselines": {
            name: {
                "kept": _with_interval(ranks.kept, resamples, seed),
                "dropped": _with_interval(ranks.dropped, resamples, seed),
            }
            for name, ranks in baselines.items()
        },
        "paired": {
            name: {
                "kept": _paired(ours.kept, ranks.kept, resamples, seed),
                "dropped": _paired(ours.dropped, ranks.dropped, resamples, seed),
            }
            for name, ranks in baselines.items()
        },
    }


def evaluate_release(
    recommender: Any,
    split: Split,
    *,
    users: int = 0,
    resamples: int = 1000,
    seed: int = 0,
    part: str = "test",
) -> dict[str, Any]:
    """Evaluate a loaded release on a split, beside the baselines of the same training events.

    The `recommender` is as `baseline_ranks` takes it, and knows its `row_of` and `release_id`.
    Returns the keys of `tesserec evaluate`.
    """
    sequences = training_sequences(split, recommender.row_of)
    items = len(recommender.item_ids)
    frequency = training_counts(sequences, items)
    asked = cases(split, recommender.row_of, frequency, part=part, users=users, seed=seed)
    baselines = baseline_ranks(recommender, sequences, asked)
    table = evaluate(asked, rank(recommender, asked), baselines, resamples=resamples, seed=seed)
    return {"release_id": recommender.release_id or None, "model": recommender.model_name, **table}


def baseline_ranks(
    recommender: Any, sequences: Sequence[np.ndarray], asked: Cases
) -> dict[str, Ranks]:
    """What stands beside a model: popularity, item-kNN, and of a fusion each part alone.

    The `recommender` knows its `item_ids`, `target_ranks`, `model_name` and `parts()`
    (tesserec.recommender); `sequences` are training sequences of item rows.
    """
    from tesserec.evaluation.baselines import ItemKNN, Popularity

    items = len(recommender.item_ids)
    rankers: dict[str, Ranker] = {b.name: b(sequences, items) for b in (Popularity, ItemKNN)}
    return {
        name: rank(ranker, asked) for name, ranker in {**rankers, **recommender.parts()}.items()
    }


def _rows(items: Sequence[str], row_of: Mapping[str, int]) -> np.ndarray:
    return np.array([row_of[i] for i in items if i in row_of], dtype=np.int64)


def _with_interval(ranks: np.ndarray, resamples: int, seed: int) -> dict[str, Any]:
    low, high = interval(ndcg(ranks, 10), resamples=resamples, seed=seed)
    return {**means(ranks), "ndcg@10_ci": [low, high]}


def _paired(ours: np.ndarray, theirs: np.ndarray, resamples: int, seed: int) -> dict[str, Any]:
    """NDCG@10 of ours minus theirs, over the same users."""
    return paired_difference(ndcg(ours, 10), ndcg(theirs, 10), resamples=resamples, seed=seed)
