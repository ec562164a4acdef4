from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tesserec.encoders.whitening import Whitening
from tesserec.errors import ArtifactError, DataError


def fitted(x: np.ndarray, dim: int) -> Whitening:
    whitening = Whitening(dim)
    whitening.fit(x)
    return whitening


def sample(n: int = 300, d: int = 12) -> np.ndarray:
    rng = np.random.default_rng(0)
    return (rng.standard_normal((n, d)) * np.arange(1, d + 1) + 5).astype(np.float32)


def test_directions_have_unit_variance_and_are_uncorrelated() -> None:
    out = fitted(sample(), 8).apply(sample()).astype(np.float64)
    np.testing.assert_allclose(out.mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(out.T @ out / len(out), np.eye(8), atol=1e-4)


def test_signs_do_not_depend_on_the_order_of_the_items() -> None:
    x = sample()
    one, two = fitted(x, 8), fitted(x[::-1], 8)
    np.testing.assert_allclose(one.weights, two.weights, atol=1e-9)
    largest = np.abs(one.weights).argmax(axis=0)
    assert (one.weights[largest, np.arange(8)] > 0).all()


@pytest.mark.parametrize("n", [1, 2, 3])
def test_fewer_items_than_directions_are_padded_with_zeros(n: int) -> None:
    whitening = fitted(sample(n), 8)
    out = whitening.apply(sample(n))
    assert whitening.rank == n - 1
    assert out.shape == (n, 8) and np.isfinite(out).all()
    assert not out[:, whitening.rank :].any()
    np.testing.assert_allclose(out[:, : n - 1].std(axis=0), 1, atol=1e-4)


def test_equal_vectors_become_zero() -> None:
    x = np.full((20, 5), 0.1, np.float32)
    assert not fitted(x, 3).apply(x).any()


def test_noise_is_not_blown_up() -> None:
    x = sample(300, 3) @ np.random.default_rng(1).standard_normal((3, 10))
    assert fitted(x.astype(np.float64), 8).rank == 3


@given(st.integers(1, 80), st.integers(0, 2**31))
@settings(deadline=None)
def test_a_row_depends_on_its_own_vector_alone(batch: int, seed: int) -> None:
    x = sample()
    whitening = fitted(x, 8)
    whole = whitening.apply(x)
    order = np.random.default_rng(seed).permutation(len(x))
    parts = [whitening.apply(x[order[i : i + batch]]) for i in range(0, len(x), batch)]
    assert np.array_equal(np.concatenate(parts), whole[order])


def test_reload_is_equal_to_the_bit(tmp_path: Path) -> None:
    whitening = fitted(sample(), 8)
    whitening.save(tmp_path)
    loaded = Whitening.load(tmp_path)
    assert np.array_equal(loaded.apply(sample()), whitening.apply(sample()))
    assert (loaded.rank, loaded.explained) == (whitening.rank, whitening.explained)


def test_files_of_two_releases_are_refused(tmp_path: Path) -> None:
    fitted(sample(), 8).save(tmp_path)
    text = (tmp_path / "whitening.json").read_text()
    fitted(sample(), 4).save(tmp_path)
    (tmp_path / "whitening.json").write_text(text)
    with pytest.raises(ArtifactError, match="do not belong together"):
        Whitening.load(tmp_path)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_bad_vectors_are_refused(bad: float) -> None:
    x = sample()
    x[3, 3] = bad
    with pytest.raises(DataError, match="NaN or infinity"):
        Whitening(4).fit(x)


def test_other_widths_are_refused() -> None:
    with pytest.raises(DataError, match="12 columns"):
        fitted(sample(), 4).apply(sample(5, 11))
    with pytest.raises(DataError, match="shape"):
        Whitening(4).fit(np.zeros((0, 5)))
