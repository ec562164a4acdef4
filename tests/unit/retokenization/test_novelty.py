from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tesserec.errors import DataError
from tesserec.retokenization.novelty import accepted, threshold


def test_one_per_cent_of_items_like_the_held_out_ones_are_rejected() -> None:
    rng = np.random.default_rng(0)
    shares = []
    for _ in range(200):
        limit = threshold(rng.exponential(size=400))
        shares.append(1 - accepted(rng.exponential(size=2000), limit).mean())
    assert np.mean(shares) == pytest.approx(0.01, abs=0.0015)


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=500))
def test_never_more_than_one_per_cent_of_the_held_out_items_themselves(errors: list[float]) -> None:
    held = np.array(errors)
    assert (~accepted(held, threshold(held))).mean() <= 0.01


def test_what_is_far_or_no_number_is_rejected_and_none_held_out_is_an_error() -> None:
    limit = threshold(np.arange(10.0))
    assert accepted(np.array([9, 9.1, np.nan]), limit).tolist() == [True, False, False]
    with pytest.raises(DataError, match="held-out"):
        threshold(np.zeros(0))
