"""How a policy ranks the events of the next block: all of them, those on new items, by item age.

Items rank by the item, never by its codes. New items have entered in the block that tests, so no
model of the table was trained on them; their codes are made by the tokenizer as it stood.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tesserec.decoders.constraints import Constraints, pack_bits
from tesserec.evaluation.baselines import ItemKNN, Popularity
from tesserec.evaluation.content_knn import ContentKNN
from tesserec.evaluation.metrics import means
from tesserec.recommender import Recommender
from tesserec.retokenization.replay_blocks import AGES, Asked
from tesserec.retokenization.replay_cells import Bench, Codes

ALL = ("ndcg@10", "recall@10", "recall@50")
COLD = ("ndcg@10", "recall@10")
DEPTH = 50  # places of a ranking that is restricted to new items
BASELINES = ("popularity", "item_knn", "content_knn")


@dataclass(frozen=True)
class Test:
    """The events of a block, drawn once for all policies."""

    block: int
    items: int  # known by its end
    new: np.ndarray  # bool [items]: entered in it
    age: np.ndarray  # int64 [items], index of AGES
    all: Asked
    on_new: Asked

    @classmethod
    def of(cls, bench: Bench, block: int, cases: int) -> Test:
        timeline, seed = bench.timeline, bench.config.seed
        age = timeline.age(block)
        return cls(
            block,
            len(age),
            age == AGES.index("new"),
            age,
            timeline.asked(block, cases, seed),
            timeline.asked(block, cases, seed, new=True),
        )


def score_model(bench: Bench, test: Test, codes: Codes, read: Any) -> dict[str, Any]:
    """Metrics of a model; `read(codes)` opens it for the table [N, m] of all items known then."""
    table = codes.grown(bench.timeline.items.slice(0, test.items))
    ids = bench.timeline.item_ids[: test.items]
    recommender = Recommender.of_parts(read(table), table, ids)
    kept = recommender.target_ranks(test.all.histories, test.all.targets)[0]
    on_new = recommender.target_ranks(test.on_new.histories, test.on_new.targets)[0]
    only = Constraints(allowed=pack_bits(test.new))
    shown, _ = recommender.recommend_rows(test.on_new.histories, DEPTH, only)
    return _metrics(test, kept, on_new, places(shown, test.on_new.targets))


def score_baseline(bench: Bench, test: Test, name: str) -> dict[str, Any]:
    """Metrics of a baseline that has seen the events before the block, and contents.

    By popularity and by neighbours of events new items are equal: they come last, by row.
    """
    if name == ContentKNN.name:
        encoder = bench.new_encoder()
        encoder.fit(bench.timeline.items.slice(0, bench.timeline.known(test.block - 1)))
        ranker = ContentKNN(encoder.encoder.encode(bench.timeline.items.slice(0, test.items)))
        cold = ranker.target_ranks(test.on_new.histories, test.on_new.targets, test.new)[0]
    else:
        kind = {b.name: b for b in (Popularity, ItemKNN)}[name]
        ranker = kind(bench.timeline.sequences(test.block - 1), test.items)
        cold = None
    kept = ranker.target_ranks(test.all.histories, test.all.targets)[0]
    on_new = ranker.target_ranks(test.on_new.histories, test.on_new.targets)[0]
    return _metrics(test, kept, on_new, cold)


def places(shown: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """1-based place of each target among the rows shown [U, k], int64 [U]; 0: not shown."""
    hit = shown == targets[:, None]
    return np.where(hit.any(axis=1), hit.argmax(axis=1) + 1, 0)


def _metrics(
    test: Test, kept: np.ndarray, on_new: np.ndarray, cold: np.ndarray | None
) -> dict[str, Any]:
    """Seen items are kept; `cold` ranks among new items alone."""
    age = test.age[test.all.targets]
    return {
        **_some(ALL, kept),
        **{f"new_{name}": value for name, value in _some(ALL, on_new).items()},
        **{
            f"cold_{name}": value if cold is not None else None
            for name, value in _some(COLD, on_new if cold is None else cold).items()
        },
        "ages": {
            name: {"cases": int((age == i).sum()), **_some(ALL, kept[age == i])}
            for i, name in enumerate(AGES)
        },
        "cases": len(test.all),
        "new_cases": len(test.on_new),
    }


def _some(names: Sequence[str], ranks: np.ndarray) -> dict[str, float]:
    values: Mapping[str, float] = means(ranks)
    return {name: values[name] for name in names}
