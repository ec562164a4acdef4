from __future__ import annotations

import functools
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tesserec.errors import UsageError
from tesserec.retokenization.budget import Budget, Spending, by_worth, within
from tesserec.retokenization.churn import churn
from tesserec.retokenization.hysteresis import refresh
from tesserec.tokenizers.opq import OPQ
from tesserec.tokenizers.rqkmeans import RQKMeans
from tests.fakes.mixture import items, kinds

METHODS = [OPQ, RQKMeans]


@functools.cache
def before_and_after(method: type) -> tuple[Any, np.ndarray, np.ndarray]:
    """A warm tokenizer, the vectors of old items, and their codes from before."""
    rng = np.random.default_rng(0)
    x = items(600, rng, kinds(30))
    tokenizer = method(4, 16, 5)
    tokenizer.fit(x, rng)
    more = np.concatenate([x, items(300, rng, kinds(12, seed=2))])
    return tokenizer.warm(more, 5), x, tokenizer.encode(x)


@pytest.mark.parametrize("method", METHODS)
def test_no_slack_is_the_warm_refresh_and_infinite_slack_is_frozen(method: type) -> None:
    warm, x, old = before_and_after(method)
    assert np.array_equal(refresh(warm, x, old, 0).codes, warm.encode(x))
    assert np.array_equal(refresh(warm, x, old, np.inf).codes, old)
    assert churn(old, warm.encode(x)).items > 0.05


@given(st.sampled_from(METHODS), st.lists(st.floats(0, 3), min_size=2, max_size=5))
@settings(max_examples=20)
def test_churn_falls_as_slack_grows(method: type, slacks: list[float]) -> None:
    warm, x, old = before_and_after(method)
    found = [churn(old, refresh(warm, x, old, slack).codes).digits for slack in sorted(slacks)]
    assert found == sorted(found, reverse=True)


@pytest.mark.parametrize("method", METHODS)
def test_what_stays_is_within_the_slack(method: type) -> None:
    warm, x, old = before_and_after(method)
    found = refresh(warm, x, old, 0.25)
    best = warm.encode(x)
    assert 0 < found.made < churn(old, best).digits * old.size
    if warm.hierarchical:
        assert (warm.errors(x, found.codes) <= 1.25 * warm.errors(x, best) * (1 + 1e-6)).all()
    else:
        assert (
            warm.digit_errors(x, found.codes) <= 1.25 * warm.digit_errors(x, best) * (1 + 1e-6)
        ).all()
    assert ((found.codes == old) | (found.codes == best)).all()


@given(
    st.sampled_from(METHODS),
    st.floats(0, 0.3),
    st.floats(0, 0.3),
    st.integers(0, 2**31),
)
@settings(max_examples=40)
def test_the_budget_is_kept_and_used_up(
    method: type, share: float, impressions: float, seed: int
) -> None:
    warm, x, old = before_and_after(method)
    shown = np.random.default_rng(seed).zipf(1.5, len(x)).clip(max=10_000) - 1
    budget = Budget(items=share, impressions=impressions)
    found = refresh(warm, x, old, 0.1, shown, budget)
    spent = churn(old, found.codes, shown)
    assert within(budget, spent, warm.hierarchical)
    all_of_them = refresh(warm, x, old, 0.1)
    assert found.wished == all_of_them.wished
    if found.made < found.wished:  # one unit more would be too much for one of the two
        digits = 1 if warm.hierarchical else 4
        items, seen = (
            (spent.items, spent.impressions)
            if warm.hierarchical
            else (spent.digits, spent.digit_impressions)
        )
        left = ((all_of_them.codes != old) & (found.codes == old)).any(axis=1)
        most = shown[left].max() / (shown.sum() * digits)
        assert items + 1 / (len(x) * digits) > share or seen + most > impressions


def test_the_most_benefit_an_impression_first_and_the_unseen_before_all() -> None:
    benefit, shown = np.array([4.0, 9, 1, 2, 4]), np.array([2.0, 3, 0, 0, 2])
    assert by_worth(benefit, shown).tolist() == [3, 2, 1, 0, 4]


def test_a_budget_is_spent_to_the_last_unit() -> None:
    spending = Spending(Budget(items=0.5, impressions=0.3), np.array([1, 2, 3, 4]), 2, True)
    assert spending.affordable(np.array([0, 1, 2])) == 2  # 3 of 10 impressions
    assert not spending.take(np.array([3])) and spending.take(np.array([0, 1]))
    assert spending.affordable(np.array([0])) == 0 and spending.affordable(np.zeros(0, int)) == 0
    nobody = Spending(Budget(items=0.5, impressions=0), np.zeros(4), 2, False)
    assert nobody.affordable(np.zeros(9, int)) == 4  # of 8 digits; none is shown
    with pytest.raises(UsageError, match=r"budget\.items is 1\.5"):
        Budget(items=1.5)
