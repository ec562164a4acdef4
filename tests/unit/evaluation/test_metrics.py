"""Metrics, intervals and slices against numbers worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tesserec.evaluation.bootstrap import interval, paired_difference, resampled_means
from tesserec.evaluation.metrics import NAMES, means, ndcg, per_user, recall
from tesserec.evaluation.slices import by_frequency, frequency_bin


def test_by_hand() -> None:
    ranks = np.array([1, 3, 6, 50, 51, 0])
    assert recall(ranks, 5).tolist() == [1, 1, 0, 0, 0, 0]
    assert ndcg(ranks, 5).tolist() == [1, 0.5, 0, 0, 0, 0]
    table = means(ranks)
    assert table == pytest.approx(
        {
            "recall@5": 2 / 6,
            "recall@10": 3 / 6,
            "recall@50": 4 / 6,
            "ndcg@5": 1.5 / 6,
            "ndcg@10": (1.5 + 1 / math.log2(7)) / 6,
            "ndcg@50": (1.5 + 1 / math.log2(7) + 1 / math.log2(51)) / 6,
        }
    )
    assert tuple(table) == NAMES
    assert per_user(ranks).shape == (6, 6)


def test_no_users() -> None:
    assert means(np.array([], dtype=int)) == dict.fromkeys(NAMES, 0.0)
    assert interval(np.array([]), resamples=100, seed=0) == (0.0, 0.0)


def test_interval_is_that_of_the_normal_approximation() -> None:
    values = (np.random.default_rng(1).random(4000) < 0.1).astype(float)
    low, high = interval(values, resamples=2000, seed=2)
    width = 1.96 * values.std() / math.sqrt(len(values))
    assert low == pytest.approx(values.mean() - width, abs=0.1 * width)
    assert high == pytest.approx(values.mean() + width, abs=0.1 * width)
    assert interval(values, resamples=2000, seed=2) == (low, high)


def test_paired_difference_is_tighter_than_two_intervals() -> None:
    rng = np.random.default_rng(3)
    theirs = rng.random(500)
    ours = theirs + 0.01
    result = paired_difference(ours, theirs, resamples=200, seed=1)
    assert result["difference"] == pytest.approx(0.01)
    assert result["ci"] == pytest.approx([0.01, 0.01])


def test_resamples_are_means_of_drawn_users() -> None:
    draws = resampled_means(np.array([[0.0, 1.0], [1.0, 0.0]]), 120, 0)
    assert draws.shape == (120, 2)
    np.testing.assert_allclose(draws.sum(axis=1), 1)  # both columns saw the same draw
    assert set(np.unique(draws)) == {0.0, 0.5, 1.0}


def test_slices() -> None:
    frequency = np.array([0, 1, 5, 6, 10, 11, 20, 21, 900])
    assert frequency_bin(frequency).tolist() == [0, 1, 1, 2, 2, 3, 3, 4, 4]
    ranks = np.arange(1, 10)
    table = by_frequency(ranks, ranks, frequency)
    assert [(s["bin"], s["users"]) for s in table] == [
        ("0", 1),
        ("1-5", 2),
        ("6-10", 2),
        ("11-20", 2),
        ("21+", 2),
    ]
    assert table[0]["kept"]["recall@5"] == 1
    assert table[4]["kept"]["recall@5"] == 0
