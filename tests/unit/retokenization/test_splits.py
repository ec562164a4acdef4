from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tesserec.retokenization.budget import Budget, within
from tesserec.retokenization.churn import churn
from tesserec.retokenization.halves import halves
from tesserec.retokenization.splits import CROWD, OVERFULL, Repair, repair
from tesserec.tokenizers.opq import OPQ
from tesserec.tokenizers.rqkmeans import RQKMeans
from tests.fakes.mixture import items, kinds

METHODS = [OPQ, RQKMeans]


def crowded(method: type, seed: int = 0, size: int = 32) -> tuple[OPQ | RQKMeans, np.ndarray]:
    """A tokenizer, and items half of which are of one kind that it hardly knew."""
    rng = np.random.default_rng(seed)
    tokenizer = method(3 if method is RQKMeans else 4, size, 4)
    tokenizer.fit(items(500, rng, kinds(20)), rng)
    return tokenizer, np.concatenate(
        [items(400, rng, kinds(15)), items(400, rng, kinds(1, seed=4))]
    )


def check(done: Repair, before: np.ndarray, vectors: np.ndarray) -> None:
    """Every move is told, every code exists, every item can be encoded."""
    told = np.zeros(len(before), dtype=bool)
    for split in done.splits:
        told[split.rows] = True
        assert len(split.rows) and split.code != split.taken
    assert np.array_equal(told, (done.codes != before).any(axis=1) | told)
    assert ((done.codes != before).any(axis=1) <= told).all()
    assert done.codes.max() < done.tokenizer.centres.shape[1] <= done.tokenizer.codebook_size
    assert np.isfinite(done.tokenizer.errors(vectors, done.codes)).all()
    again = done.tokenizer.encode(vectors)
    assert again.dtype == before.dtype
    assert np.isfinite(done.tokenizer.errors(vectors, again)).all()


@pytest.mark.parametrize("method", METHODS)
def test_overfull_codes_are_split_and_dead_ones_used(method: type) -> None:
    tokenizer, x = crowded(method)
    before = tokenizer.encode(x)
    done = repair(tokenizer, x, before)
    check(done, before, x)
    limit = max(OVERFULL * len(x) / 32, CROWD)
    for j in range(1 if tokenizer.hierarchical else 4):
        old, new = (np.bincount(codes[:, j], minlength=32) for codes in (before, done.codes))
        assert old.max() > limit >= new.max() or (new > 0).all()
        assert (new > 0).sum() > (old > 0).sum() or (old > 0).all()
    assert {split.why for split in done.splits} >= {"overfull", "dead"}
    errors = tokenizer.errors(x, before).mean(), done.tokenizer.errors(x, done.codes).mean()
    assert errors[1] < errors[0]


@pytest.mark.parametrize("method", METHODS)
def test_larger_halves_keep_their_codes(method: type) -> None:
    tokenizer, x = crowded(method)
    before = tokenizer.encode(x)
    first = repair(tokenizer, x, before).splits[0]
    assert 2 * len(first.rows) <= (before[:, first.digit] == first.code).sum()
    assert (before[first.rows, first.digit] == first.code).all()
    assert not (before[:, first.digit] == first.taken).any()


@pytest.mark.parametrize("method", METHODS)
def test_codes_that_others_hold_are_not_dead(method: type) -> None:
    tokenizer, x = crowded(method)
    before = tokenizer.encode(x)
    free = repair(tokenizer, x, before)
    taken = {(s.digit, s.taken) for s in free.splits}
    held = np.zeros((32, before.shape[1]), before.dtype)
    held[:] = np.arange(32)[:, None]  # every code of every digit
    kept = repair(tokenizer, x, before, held=held)
    assert taken and not any(s.why == "dead" for s in kept.splits)
    if not tokenizer.hierarchical:
        assert not kept.splits and np.array_equal(kept.codes, before)
    few = repair(tokenizer, x, before, held=held[[min(taken)[1]]])
    digit, code = min(taken)
    assert (digit, code) not in {(s.digit, s.taken) for s in few.splits if s.why != "crowd"}


@given(st.sampled_from(METHODS), st.floats(0, 0.4), st.floats(0, 0.4), st.integers(0, 50))
@settings(max_examples=25)
def test_the_budget_is_never_passed(
    method: type, share: float, impressions: float, seed: int
) -> None:
    tokenizer, x = crowded(method, seed)
    before = tokenizer.encode(x)
    shown = np.random.default_rng(seed).integers(0, 100, len(x))
    budget = Budget(items=share, impressions=impressions)
    done = repair(tokenizer, x, before, shown, budget)
    check(done, before, x)
    changed = done.codes != before
    assert within(budget, churn(before, done.codes, shown), tokenizer.hierarchical)
    assert bool(done.splits) or not changed.any()


def test_too_many_look_alikes_of_one_tuple_are_spread_below_their_prefix() -> None:
    tokenizer = RQKMeans(2, 4)
    level = np.array([[0, 0], [10, 0], [0, 10], [10, 10]], np.float32)
    tokenizer = tokenizer.with_centres(np.stack([level, level / 20]))
    rng = np.random.default_rng(0)
    x = np.repeat(level, 20, axis=0) + 0.05 * rng.standard_normal((80, 2)).astype(np.float32)
    before = tokenizer.encode(x.astype(np.float32))
    assert len(np.unique(before, axis=0)) == 4
    done = repair(tokenizer, x.astype(np.float32), before)
    check(done, before, x.astype(np.float32))
    assert np.array_equal(done.codes[:, 0], before[:, 0])
    assert np.unique(done.codes, axis=0, return_counts=True)[1].max() < 20


def test_a_full_book_without_dead_codes_and_equal_vectors_cannot_be_split() -> None:
    tokenizer = OPQ(1, 5)
    tokenizer.rotation = np.eye(1, dtype=np.float32)
    tokenizer.centres = np.array([[[0], [50], [51], [52], [53]]], np.float32)
    x = np.array([[0.1 * i] for i in range(90)] + [[50], [51], [52], [53]], np.float32)
    before = tokenizer.encode(x)
    full = repair(tokenizer, x, before)
    assert not full.splits and np.array_equal(full.tokenizer.centres, tokenizer.centres)
    tokenizer.codebook_size = 7  # the model has room for two codes more
    grown = repair(tokenizer, x, before)
    assert grown.splits[0].taken == 5 and grown.tokenizer.centres.shape == (1, 6, 1)
    check(grown, before, x)
    same = repair(tokenizer, np.zeros((90, 1), np.float32), np.zeros((90, 1), np.uint8))
    assert not same.splits


def test_names_along_paths_outlive_a_split() -> None:
    from tesserec.retokenization.paths import along_paths

    tokenizer, x = crowded(RQKMeans)
    assert isinstance(tokenizer, RQKMeans)
    old = np.random.default_rng(0).permutation(tokenizer.encode(x))
    named = along_paths(tokenizer, old, tokenizer.encode(x))
    before = named.encode(x)
    done = repair(named, x, before)
    check(done, before, x)
    plain = repair(tokenizer, x, tokenizer.encode(x))
    assert np.array_equal(done.codes, done.tokenizer.named(plain.codes))


@given(st.integers(0, 2**31), st.integers(2, 60), st.integers(1, 5))
@settings(max_examples=40)
def test_halves_are_two_and_deterministic(seed: int, n: int, dim: int) -> None:
    x = np.random.default_rng(seed).standard_normal((n, dim)).astype(np.float32)
    smaller = halves(x)
    again = halves(x)
    assert smaller is not None and again is not None and 0 < smaller.sum() <= n / 2
    assert np.array_equal(smaller, again)
    assert halves(np.ones((n, dim), np.float32)) is None and halves(x[:1]) is None
