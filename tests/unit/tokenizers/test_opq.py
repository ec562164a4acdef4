from __future__ import annotations

import functools
import json
import logging
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tesserec.errors import ArtifactError, DataError, UsageError
from tesserec.tokenizers import load_tokenizer
from tesserec.tokenizers.opq import OPQ


def sample(n: int = 400, d: int = 16, seed: int = 0) -> np.ndarray:
    """Clustered vectors."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((40, d))[rng.integers(0, 40, n)] + 0.3 * rng.standard_normal((n, d))
    return x.astype(np.float32)


def fitted(x: np.ndarray, digits: int = 4, size: int = 16, iterations: int = 4) -> OPQ:
    tokenizer = OPQ(digits, size, iterations)
    tokenizer.fit(x, np.random.default_rng(5))
    return tokenizer


@functools.cache
def shared() -> OPQ:
    return fitted(sample())


@pytest.fixture
def tokenizer() -> OPQ:
    return shared()


def test_codes_are_the_nearest_centres_of_the_rotated_vector(tokenizer: OPQ) -> None:
    x = sample()
    codes = tokenizer.encode(x)
    assert codes.dtype == np.uint8 and codes.shape == (400, 4)
    parts = (x.astype(np.float64) @ tokenizer.rotation).reshape(400, 4, 1, 4)
    distance = ((parts - tokenizer.centres[None]) ** 2).sum(axis=3)
    at_code = np.take_along_axis(distance, codes[:, :, None].astype(int), axis=2)[:, :, 0]
    np.testing.assert_allclose(at_code, distance.min(axis=2), rtol=1e-5, atol=1e-6)


def test_rotation_is_orthogonal_and_decode_inverts_it(tokenizer: OPQ) -> None:
    np.testing.assert_allclose(tokenizer.rotation @ tokenizer.rotation.T, np.eye(16), atol=1e-5)
    rng = np.random.default_rng(1)
    codes = rng.integers(0, 16, (50, 4)).astype(np.uint8)
    again = tokenizer.decode(tokenizer.encode(tokenizer.decode(codes)))
    np.testing.assert_allclose(again, tokenizer.decode(codes), atol=1e-4)


def test_a_learnt_rotation_is_better_than_a_random_one() -> None:
    rng = np.random.default_rng(2)
    # four correlated blocks, mixed: the case that a rotation helps
    blocks = np.repeat(rng.standard_normal((600, 4)), 4, axis=1)
    x = (blocks + 0.1 * rng.standard_normal((600, 16)))[:, rng.permutation(16)].astype(np.float32)

    def error(iterations: int) -> float:
        tokenizer = fitted(x, iterations=iterations)
        return float(((tokenizer.decode(tokenizer.encode(x)) - x) ** 2).mean())

    assert error(10) < 0.9 * error(0)


def test_fit_is_reproducible_and_takes_its_seed_from_the_generator(tokenizer: OPQ) -> None:
    again = fitted(sample())
    assert np.array_equal(again.rotation, tokenizer.rotation)
    assert np.array_equal(again.centres, tokenizer.centres)
    other = OPQ(4, 16, 4)
    other.fit(sample(), np.random.default_rng(6))
    assert not np.array_equal(other.centres, tokenizer.centres)


def test_fit_does_not_depend_on_the_number_of_threads(tokenizer: OPQ) -> None:
    import faiss

    before = faiss.omp_get_max_threads()
    try:
        faiss.omp_set_num_threads(2)
        again = fitted(sample())
        assert faiss.omp_get_max_threads() == 2  # put back
    finally:
        faiss.omp_set_num_threads(before)
    assert np.array_equal(again.centres, tokenizer.centres)


@given(st.integers(1, 90), st.integers(0, 2**31))
@settings(deadline=None, max_examples=40)
def test_a_code_depends_on_its_own_vector_alone(batch: int, seed: int) -> None:
    x, tokenizer = sample(), shared()
    whole = tokenizer.encode(x)
    order = np.random.default_rng(seed).permutation(len(x))
    parts = [tokenizer.encode(x[order[i : i + batch]]) for i in range(0, len(x), batch)]
    assert np.array_equal(np.concatenate(parts), whole[order])


def test_ties_go_to_the_lowest_code() -> None:
    tokenizer = OPQ(1, 4)
    tokenizer.rotation = np.eye(2, dtype=np.float32)
    tokenizer.centres = np.array([[[9, 9], [1, 0], [-1, 0], [1, 0]]], np.float32)
    assert tokenizer.encode(np.array([[0, 5], [1, 0]], np.float32)).tolist() == [[1], [1]]


@pytest.mark.parametrize("n", [1, 2, 3, 5, 15, 16, 17])
def test_fewer_items_than_centres(n: int, caplog: pytest.LogCaptureFixture) -> None:
    x = sample(n)
    with caplog.at_level(logging.WARNING):
        tokenizer = fitted(x, size=256)
    assert f"{n} training items for 256 centres" in caplog.text
    assert tokenizer.centres.shape[1] == n
    codes = tokenizer.encode(x)
    assert codes.max() < n
    assert tokenizer.encode(sample(50, seed=9)).max() < n


def test_equal_vectors_get_equal_codes() -> None:
    x = np.zeros((30, 16), np.float32)
    tokenizer = fitted(x, size=8)
    assert np.isfinite(tokenizer.centres).all()
    assert len(np.unique(tokenizer.encode(x), axis=0)) == 1
    np.testing.assert_allclose(tokenizer.decode(tokenizer.encode(x)), x, atol=1e-3)


@pytest.mark.parametrize(("size", "kind"), [(2, np.uint8), (100, np.uint8), (300, np.uint16)])
def test_any_codebook_size(size: int, kind: type) -> None:
    codes = fitted(sample(), size=size).encode(sample())
    assert codes.dtype == kind and codes.max() < size


def test_reload_is_equal_to_the_bit(tokenizer: OPQ, tmp_path: Path) -> None:
    tokenizer.save(tmp_path)
    x = sample(seed=3)
    loaded = load_tokenizer(tmp_path)
    assert np.array_equal(loaded.encode(x), tokenizer.encode(x))
    assert np.array_equal(loaded.decode(loaded.encode(x)), tokenizer.decode(tokenizer.encode(x)))


def test_loading_needs_neither_faiss_nor_sklearn(tokenizer: OPQ, tmp_path: Path) -> None:
    tokenizer.save(tmp_path / "tokenizer")
    np.save(tmp_path / "x.npy", sample(20))
    code = (
        "import sys; sys.modules['faiss'] = sys.modules['sklearn'] = None\n"
        "import numpy as np; from pathlib import Path\n"
        "from tesserec.tokenizers import load_tokenizer\n"
        f"folder = Path({str(tmp_path)!r})\n"
        "codes = load_tokenizer(folder / 'tokenizer').encode(np.load(folder / 'x.npy'))\n"
        "np.save(folder / 'codes.npy', codes)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    assert np.array_equal(np.load(tmp_path / "codes.npy"), tokenizer.encode(sample(20)))


def test_bad_input_is_refused(tokenizer: OPQ, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    with pytest.raises(UsageError, match=r"pca_dim 16 is not a multiple of tokenizer\.digits 3"):
        OPQ(3).fit(sample(), rng)
    with pytest.raises(DataError, match="at least one item"):
        OPQ(4).fit(sample()[:0], rng)
    with pytest.raises(DataError, match="NaN"):
        OPQ(4).fit(np.full((3, 16), np.nan, np.float32), rng)
    with pytest.raises(DataError, match="16 columns"):
        tokenizer.encode(sample(5, 8))
    with pytest.raises(ArtifactError, match=r"no tokenizer\.json"):
        load_tokenizer(tmp_path)
    tokenizer.save(tmp_path)
    info = json.loads((tmp_path / "tokenizer.json").read_text())
    (tmp_path / "tokenizer.json").write_text(json.dumps(info | {"centres": 8}))
    with pytest.raises(ArtifactError, match="do not belong together"):
        load_tokenizer(tmp_path)
    (tmp_path / "tokenizer.json").write_text('{"name": "magic"}')
    with pytest.raises(ArtifactError, match="magic"):
        load_tokenizer(tmp_path)


def test_warm_lowers_the_error_and_keeps_names_and_rotation(tokenizer: OPQ) -> None:
    x = sample(seed=8)
    before = tokenizer.errors(x, tokenizer.encode(x)).mean()
    other = tokenizer.warm(x, 3)
    assert other.errors(x, other.encode(x)).mean() < 0.9 * before
    assert np.array_equal(other.rotation, tokenizer.rotation)
    near = tokenizer.warm(sample(), 1)  # its own data: hardly a step
    assert (near.encode(sample()) == tokenizer.encode(sample())).mean() > 0.8
    assert np.array_equal(tokenizer.warm(x, 0).centres, tokenizer.centres)


def test_a_centre_without_a_member_keeps_its_place_in_a_warm_pass() -> None:
    tokenizer = OPQ(1, 3)
    tokenizer.rotation = np.eye(2, dtype=np.float32)
    tokenizer.centres = np.array([[[0, 0], [50, 50], [4, 4]]], np.float32)
    x = np.array([[1, 1], [-3, -3], [5, 5]], np.float32)
    assert tokenizer.warm(x, 2).centres.tolist() == [[[-1, -1], [50, 50], [5, 5]]]


def test_errors_are_the_squared_distances_to_what_the_codes_stand_for(tokenizer: OPQ) -> None:
    x = sample(50, seed=4)
    codes = np.random.default_rng(0).integers(0, 16, (50, 4)).astype(np.uint8)
    expected = ((tokenizer.decode(codes) - x) ** 2).sum(axis=1)
    np.testing.assert_allclose(tokenizer.errors(x, codes), expected, rtol=1e-4)
    by_digit = tokenizer.digit_errors(x, codes)
    np.testing.assert_allclose(by_digit.sum(axis=1), expected, rtol=1e-4)
    assert (tokenizer.digit_errors(x, tokenizer.encode(x)) <= by_digit).all()
    order = np.random.default_rng(1).permutation(50)
    assert np.array_equal(
        tokenizer.errors(x[order], codes[order]), tokenizer.errors(x, codes)[order]
    )


def test_margins() -> None:
    tokenizer = OPQ(1, 3)
    tokenizer.rotation = np.eye(2, dtype=np.float32)
    tokenizer.centres = np.array([[[0, 0], [4, 0], [90, 0]]], np.float32)
    x = np.array([[0, 0], [2, 0], [1, 0]], np.float32)
    np.testing.assert_allclose(tokenizer.margins(x)[:, 0], [1, 0, 2 / 3], rtol=1e-6)
    tokenizer.centres = np.zeros((1, 2, 2), np.float32)
    assert tokenizer.margins(x)[:, 0].tolist() == [0, 0, 0]  # two at one place: no margin at all
    tokenizer.centres = np.zeros((1, 1, 2), np.float32)
    assert tokenizer.margins(x)[:, 0].tolist() == [1, 1, 1]


def test_no_items_have_no_codes(tokenizer: OPQ) -> None:
    nothing = np.zeros((0, 16), np.float32)
    codes = tokenizer.encode(nothing)
    assert codes.shape == (0, 4) and codes.dtype == np.uint8
    assert len(tokenizer.errors(nothing, codes)) == len(tokenizer.margins(nothing)) == 0
