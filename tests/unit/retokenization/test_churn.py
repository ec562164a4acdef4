from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tesserec.errors import DataError
from tesserec.retokenization.churn import churn

OLD = np.array([[0, 1], [2, 3], [4, 5], [6, 7]], np.uint8)


def test_shares_by_item_digit_prefix_and_impressions() -> None:
    new = OLD.copy()
    new[0, 1], new[1] = 9, [8, 8]
    found = churn(OLD, new, np.array([7, 1, 1, 1]))
    assert found.items == 0.5 and found.impressions == 0.8
    assert found.digit_impressions == (7 + 2) / 20
    assert found.digits == 3 / 8 and found.by_digit == [0.25, 0.5] and found.prefix == [0.25, 0.5]


def test_nothing_changed_or_nothing_there() -> None:
    assert churn(OLD, OLD).items == churn(OLD, OLD).impressions == 0
    assert churn(OLD[:0], OLD[:0]).relabel_free == [0, 0]
    assert churn(OLD, OLD + 1, np.zeros(4)).impressions == 0  # none of what is shown


@given(st.integers(0, 2**31), st.integers(2, 40))
def test_another_name_is_churn_but_not_relabel_free_churn(seed: int, size: int) -> None:
    rng = np.random.default_rng(seed)
    old = rng.integers(0, size, (200, 3)).astype(np.uint8)
    names = np.stack([rng.permutation(size) for _ in range(3)])
    found = churn(old, np.stack([names[j][old[:, j]] for j in range(3)], 1).astype(np.uint8))
    assert found.relabel_free == [0, 0, 0]
    other = churn(old, rng.integers(0, size, (200, 3)).astype(np.uint8))
    assert all(a <= b for a, b in zip(other.relabel_free, other.by_digit, strict=True))


def test_tables_that_do_not_belong_together_are_refused() -> None:
    with pytest.raises(DataError, match=r"\[4, 2\] and \[3, 2\]"):
        churn(OLD, OLD[:3])
    with pytest.raises(DataError, match="3 weights for 4 items"):
        churn(OLD, OLD, np.ones(3))
