from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tesserec.encoders.rowwise import matmul, nearest


@given(st.integers(0, 150), st.integers(1, 20), st.integers(1, 9), st.integers(0, 2**31))
@settings(deadline=None)
def test_product_is_right_and_rows_do_not_see_the_batch(n: int, d: int, e: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    x, w = rng.standard_normal((n, d)), rng.standard_normal((d, e))
    whole = matmul(x, w)
    np.testing.assert_allclose(whole, x @ w, rtol=1e-9, atol=1e-9)
    order = rng.permutation(n)
    assert np.array_equal(matmul(x[order], w), whole[order])
    alone = [matmul(x[i : i + 1], w) for i in range(n)]
    assert np.array_equal(np.concatenate([np.zeros((0, e)), *alone]), whole)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_product_takes_the_type_of_the_weights(dtype: type) -> None:
    assert matmul(np.ones((2, 3), np.float16), np.ones((3, 1), dtype)).dtype == dtype


@given(st.integers(1, 130), st.integers(1, 30), st.integers(1, 5), st.integers(0, 2**31))
@settings(deadline=None)
def test_nearest_is_the_lowest_index_of_the_smallest_distance(
    n: int, k: int, width: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    # whole numbers: distances are exact and ties are common
    x = rng.integers(-2, 3, (n, width)).astype(np.float32)
    centres = rng.integers(-2, 3, (k, width)).astype(np.float32)
    distance = ((x[:, None] - centres[None]) ** 2).sum(axis=2)
    assert np.array_equal(nearest(x, centres), distance.argmin(axis=1))
