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

from tesserec.config import from_dict
from tesserec.errors import ArtifactError, DataError, UsageError
from tesserec.tokenizers import load_tokenizer
from tesserec.tokenizers.rqkmeans import RQKMeans


def sample(n: int = 400, d: int = 10, seed: int = 0) -> np.ndarray:
    """Clustered vectors."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((40, d))[rng.integers(0, 40, n)] + 0.3 * rng.standard_normal((n, d))
    return x.astype(np.float32)


def fitted(x: np.ndarray, digits: int = 3, size: int = 16, iterations: int = 10) -> RQKMeans:
    tokenizer = RQKMeans(digits, size, iterations)
    tokenizer.fit(x, np.random.default_rng(5))
    return tokenizer


@functools.cache
def shared() -> RQKMeans:
    return fitted(sample())


@pytest.fixture
def tokenizer() -> RQKMeans:
    return shared()


def test_each_code_is_the_nearest_centre_of_what_is_left(tokenizer: RQKMeans) -> None:
    x = sample()
    codes = tokenizer.encode(x)
    assert codes.dtype == np.uint8 and codes.shape == (400, 3)
    left = x.astype(np.float64)
    for j in range(3):
        distance = ((left[:, None] - tokenizer.centres[j]) ** 2).sum(axis=2)
        at_code = distance[np.arange(400), codes[:, j]]
        np.testing.assert_allclose(at_code, distance.min(axis=1), rtol=1e-4, atol=1e-5)
        left -= tokenizer.centres[j][codes[:, j]]
    np.testing.assert_allclose(tokenizer.decode(codes), x - left, atol=1e-5)
    np.testing.assert_allclose(tokenizer.errors(x, codes), (left**2).sum(axis=1), rtol=1e-4)


def test_each_level_leaves_less_and_k_means_leaves_less_than_its_start() -> None:
    x = sample()

    def error(digits: int, iterations: int) -> float:
        tokenizer = fitted(x, digits, iterations=iterations)
        return float(tokenizer.errors(x, tokenizer.encode(x)).mean())

    assert error(3, 10) < 0.8 * error(2, 10) < 0.7 * error(1, 10)
    assert error(2, 10) < 0.95 * error(2, 0)


def test_fit_is_reproducible_on_any_number_of_threads(tokenizer: RQKMeans) -> None:
    import faiss

    before = faiss.omp_get_max_threads()
    try:
        faiss.omp_set_num_threads(2)
        again = fitted(sample())
        assert faiss.omp_get_max_threads() == 2  # put back
    finally:
        faiss.omp_set_num_threads(before)
    assert np.array_equal(again.centres, tokenizer.centres)
    other = RQKMeans(3, 16, 10)
    other.fit(sample(), np.random.default_rng(6))
    assert not np.array_equal(other.centres, tokenizer.centres)


@given(st.integers(1, 90), st.integers(0, 2**31))
@settings(max_examples=40)
def test_a_code_depends_on_its_own_vector_alone(batch: int, seed: int) -> None:
    x, tokenizer = sample(), shared()
    whole, far = tokenizer.encode(x), tokenizer.errors(x, tokenizer.encode(x))
    order = np.random.default_rng(seed).permutation(len(x))
    rows = [order[i : i + batch] for i in range(0, len(x), batch)]
    assert np.array_equal(np.concatenate([tokenizer.encode(x[r]) for r in rows]), whole[order])
    errors = np.concatenate([tokenizer.errors(x[r], whole[r]) for r in rows])
    assert np.array_equal(errors, far[order])


def test_ties_go_to_the_lowest_code_and_margins_tell_of_them() -> None:
    tokenizer = RQKMeans(2, 4).with_centres(
        np.array([[[9, 9], [1, 0], [-1, 0], [1, 0]], [[0, 0], [0, 3], [0, 8], [0, 9]]])
    )
    x = np.array([[0, 5], [1, 0]], np.float32)
    assert tokenizer.encode(x).tolist() == [[1, 1], [1, 0]]
    assert tokenizer.margins(x)[:, 0].tolist() == [0, 0]
    assert tokenizer.margins(x)[1, 1] == 1


@pytest.mark.parametrize("n", [1, 2, 15, 16, 17])
def test_fewer_items_than_centres(n: int, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        tokenizer = fitted(sample(n), size=256)
    assert f"{n} training items for 256 centres" in caplog.text
    assert tokenizer.centres.shape == (3, n, 10)
    assert tokenizer.encode(sample(50, seed=9)).max() < n
    assert tokenizer.encode(sample(0)).shape == (0, 3)


def test_equal_vectors_get_equal_codes() -> None:
    tokenizer = fitted(np.ones((30, 16), np.float32), size=8)
    assert np.isfinite(tokenizer.centres).all()
    codes = tokenizer.encode(np.ones((30, 16), np.float32))
    assert len(np.unique(codes, axis=0)) == 1
    np.testing.assert_allclose(tokenizer.decode(codes), 1, atol=1e-3)


def test_warm_lowers_the_error_and_keeps_names(tokenizer: RQKMeans) -> None:
    x = sample(seed=8)
    before = tokenizer.errors(x, tokenizer.encode(x)).mean()
    other = tokenizer.warm(x, 5)
    assert other.errors(x, other.encode(x)).mean() < 0.7 * before
    near = tokenizer.warm(sample(), 1)  # its own data: hardly a step
    assert (near.encode(sample()) == tokenizer.encode(sample())).mean() > 0.9
    assert np.array_equal(tokenizer.warm(x, 0).centres, tokenizer.centres)
    away = tokenizer.warm(x[:1], 1)  # one item moves one centre a level
    assert ((away.centres != tokenizer.centres).any(axis=2).sum(axis=1) == 1).all()


def test_reload_is_equal_to_the_bit_and_needs_no_faiss(tokenizer: RQKMeans, tmp_path: Path) -> None:
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
    loaded = load_tokenizer(tmp_path / "tokenizer")
    assert np.array_equal(loaded.centres, tokenizer.centres) and loaded.hierarchical


def test_bad_input_is_refused(tokenizer: RQKMeans, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    with pytest.raises(DataError, match="at least one item"):
        RQKMeans(4).fit(sample()[:0], rng)
    with pytest.raises(DataError, match="NaN"):
        RQKMeans(4).fit(np.full((3, 16), np.nan, np.float32), rng)
    with pytest.raises(DataError, match="10 columns"):
        tokenizer.encode(sample(5, 8))
    tokenizer.save(tmp_path)
    info = json.loads((tmp_path / "tokenizer.json").read_text())
    (tmp_path / "tokenizer.json").write_text(json.dumps(info | {"centres": 8}))
    with pytest.raises(ArtifactError, match="do not belong together"):
        load_tokenizer(tmp_path)


def test_digits_need_not_divide_the_width_of_the_vectors() -> None:
    three = {"digits": 3}
    assert from_dict({"tokenizer": {"name": "rqkmeans"} | three}).tokenizer.digits == 3
    with pytest.raises(UsageError, match=r"digits \(3\), or tokenizer\.name=rqkmeans"):
        from_dict({"tokenizer": {"name": "opq"} | three})
