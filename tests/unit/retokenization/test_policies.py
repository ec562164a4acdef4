from __future__ import annotations

import functools
from typing import Any

import numpy as np
import pytest

from tesserec.errors import UsageError
from tesserec.retokenization.budget import Budget
from tesserec.retokenization.policies import POLICIES, Limits, State, Update, update
from tesserec.tokenizers.opq import OPQ
from tesserec.tokenizers.rqkmeans import RQKMeans
from tests.fakes.mixture import items, kinds

METHODS = [OPQ, RQKMeans]


@functools.cache
def before(method: type) -> tuple[State, np.ndarray]:
    """A shop, and new items of which a third is of kinds that it did not have."""
    rng = np.random.default_rng(0)
    x = items(1200, rng, kinds(30))
    tokenizer = method(4, 32, 10)
    tokenizer.fit(x, rng)
    shown = rng.zipf(1.6, len(x)).clip(max=1000).astype(float)
    state = State(tokenizer=tokenizer, vectors=x, codes=tokenizer.encode(x), shown=shown)
    return state, np.concatenate([items(200, rng, kinds(30)), items(100, rng, kinds(3, seed=6))])


@functools.cache
def after(method: type, policy: str) -> Update:
    state, new = before(method)
    return update(policy, state, new, np.random.default_rng(5))


def error(method: type, policy: str, of_new: bool) -> float:
    (state, new), done = before(method), after(method, policy)
    x, codes = (new, done.new) if of_new else (state.vectors, done.old)
    return float(done.tokenizer.errors(x, codes).mean())


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("policy", [p for p in POLICIES if p != "paths"])
def test_new_items_have_the_tokenizers_codes_and_old_ones_still_fit(
    method: type, policy: str
) -> None:
    (state, new), done = before(method), after(method, policy)
    assert np.array_equal(done.new, done.tokenizer.encode(new))
    assert done.old.shape == state.codes.shape and done.old.dtype == state.codes.dtype
    assert error(method, policy, of_new=False) < 1.35 * error(method, "frozen", of_new=False)
    if policy not in ("frozen", "hysteresis"):
        assert np.array_equal(done.old, done.tokenizer.encode(state.vectors))


@pytest.mark.parametrize("method", METHODS)
def test_frozen_changes_nothing_and_a_rebuild_everything(method: type) -> None:
    state, _ = before(method)
    assert after(method, "frozen").churn.items == 0
    assert after(method, "frozen").tokenizer is state.tokenizer
    assert after(method, "rebuild").churn.items > 0.98
    assert after(method, "aligned").churn.digits < after(method, "rebuild").churn.digits - 0.1


@pytest.mark.parametrize("method", METHODS)
def test_warm_lies_between_and_hysteresis_keeps_the_budget(method: type) -> None:
    warm, kept = after(method, "warm").churn, after(method, "hysteresis").churn
    assert 0.02 < warm.items < after(method, "rebuild").churn.items
    spent = kept.items if method is RQKMeans else kept.digits
    assert 0 < spent <= 0.05
    assert error(method, "warm", of_new=True) < 0.95 * error(method, "frozen", of_new=True)
    assert error(method, "hysteresis", of_new=True) == error(method, "warm", of_new=True)
    assert error(method, "ema", of_new=True) < error(method, "frozen", of_new=True)


@pytest.mark.parametrize("method", METHODS)
def test_limits_are_heeded(method: type) -> None:
    state, new = before(method)
    rng = np.random.default_rng(0)

    def with_limits(**limits: Any) -> Update:
        return update("hysteresis", state, new, rng, Limits(**limits))

    plain = with_limits(slack=0, budget=None)
    assert np.array_equal(plain.old, after(method, "warm").old)
    assert with_limits(slack=np.inf).churn.items == 0
    assert with_limits(budget=Budget(items=0)).churn.items == 0
    assert with_limits(budget=Budget(impressions=0)).churn.impressions == 0


def test_names_along_paths_save_more_than_names_by_level() -> None:
    paths, levels = after(RQKMeans, "paths").churn, after(RQKMeans, "aligned").churn
    assert paths.items < levels.items - 0.03 and paths.by_digit[0] == levels.by_digit[0]


def test_an_unknown_policy_and_paths_of_parallel_codes_are_refused() -> None:
    state, new = before(OPQ)
    rng = np.random.default_rng(0)
    with pytest.raises(UsageError, match="'often'; use one of frozen, ema, warm"):
        update("often", state, new, rng)
    with pytest.raises(UsageError, match="no paths"):
        update("paths", state, new, rng)


@pytest.mark.parametrize("method", METHODS)
def test_an_update_without_new_items(method: type) -> None:
    state, new = before(method)
    for policy in ("frozen", "ema", "warm", "hysteresis"):
        done = update(policy, state, new[:0], np.random.default_rng(0))
        assert done.new.shape == (0, 4) and done.churn.items <= 0.4
