"""Equal scores: by row, or by a seed's order, which depends on nothing else."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tesserec.decoders import ties
from tesserec.decoders.constraints import Constraints, pack_bits
from tesserec.decoders.exhaustive import Exhaustive
from tesserec.decoders.scorers import VectorScorer

SCORES = np.array([3, 1, 3, 2, 2, 3, 2, 1, 2, 2], np.float32)


def ranked(scores: np.ndarray, k: int, rules: Constraints) -> list[int]:
    decoder = Exhaustive(VectorScorer(torch.from_numpy(scores)[:, None]))
    rows, found = decoder.rank(torch.ones(1, 1), k, rules)
    assert found[0].tolist() == scores[rows[0]].tolist()
    return rows[0].tolist()


def test_a_seed_orders_equals_and_nothing_else() -> None:
    assert ranked(SCORES, 10, Constraints()) == [0, 2, 5, 3, 4, 6, 8, 9, 1, 7]
    orders = {tuple(ranked(SCORES, 10, Constraints(seeds=[seed]))) for seed in range(50)}
    assert len(orders) > 40
    for order in orders:
        assert [sorted(order[:3]), sorted(order[3:8])] == [[0, 2, 5], [3, 4, 6, 8, 9]]
    assert len({order[3] for order in orders}) == 5, "each of five equals is in front for some seed"
    again = ranked(SCORES, 10, Constraints(seeds=[7]))
    for k in range(1, 10):  # the cut goes through equals, too
        assert ranked(SCORES, k, Constraints(seeds=[7])) == again[:k]


def test_every_one_of_the_equals_is_shown_equally_often() -> None:
    first = [ranked(np.ones(20, np.float32), 1, Constraints(seeds=[s]))[0] for s in range(4000)]
    counts = np.bincount(first, minlength=20)
    assert (abs(counts - 200) < 70).all(), counts  # five standard deviations


def test_of_thousands_of_equals_the_lowest_rows_take_part(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ties, "TIES", 8)
    scores = np.r_[np.ones(30), np.full(2, 5.0)].astype(np.float32)
    seeds = Constraints(seeds=[3])
    whole = ranked(scores, 32, seeds)
    assert set(whole[:2]) == {30, 31}
    assert set(whole[2:10]) == set(range(8)) and whole[10:] == list(range(8, 30))
    assert whole[2:10] != list(range(8))
    for k in (1, 5, 9, 12, 31):
        assert ranked(scores, k, seeds) == whole[:k]
    quota = (pack_bits(np.arange(32) >= 20), 4)
    for k in (6, 12):
        found = ranked(scores, k, Constraints(seeds=[3], quota=quota, cap=None))
        assert sum(row >= 20 for row in found) >= 4 and len(set(found)) == k


def test_a_neighbours_seed_changes_nothing() -> None:
    decoder = Exhaustive(VectorScorer(torch.from_numpy(SCORES)[:, None]))
    seeds = [None, 1, None, 2, 1]
    rows, _ = decoder.rank(torch.ones(5, 1), 4, Constraints(seeds=seeds))
    for user, seed in enumerate(seeds):
        assert rows[user].tolist() == ranked(SCORES, 4, Constraints(seeds=[seed]))
