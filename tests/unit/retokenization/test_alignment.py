from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tesserec.errors import UsageError
from tesserec.retokenization.alignment import greedy, hungarian, renamed, renamed_codes
from tesserec.retokenization.churn import churn
from tesserec.retokenization.paths import along_paths, path_names
from tesserec.tokenizers import load_tokenizer
from tesserec.tokenizers.opq import OPQ
from tesserec.tokenizers.rqkmeans import RQKMeans
from tests.fakes.mixture import items, kinds

METHODS = [OPQ, RQKMeans]


@functools.cache
def fitted(method: type, seed: int = 0) -> tuple[Any, np.ndarray, np.ndarray]:
    x = items(900, np.random.default_rng(3), kinds(25))
    tokenizer = method(4, 32, 5)
    tokenizer.fit(x, np.random.default_rng(seed))
    return tokenizer, x, tokenizer.encode(x)


def codes(rng: np.random.Generator, n: int, digits: int, size: int) -> np.ndarray:
    return rng.integers(0, size, (n, digits)).astype(np.uint8)


@pytest.mark.parametrize("align", [hungarian, greedy])
@pytest.mark.parametrize("method", METHODS)
def test_rows_of_a_codebook_in_another_order_are_no_churn(method: type, align: Any) -> None:
    tokenizer, x, old = fitted(method)
    rng = np.random.default_rng(1)
    shuffled = renamed(tokenizer, np.stack([rng.permutation(32) for _ in range(4)]))
    assert churn(old, shuffled.encode(x)).items > 0.99
    back = renamed(shuffled, align(old, shuffled.encode(x), 32))
    assert churn(old, back.encode(x)).items == 0


@pytest.mark.parametrize("method", METHODS)
def test_a_renamed_tokenizer_gives_the_renamed_codes(method: type) -> None:
    _, x, old = fitted(method)
    other, _, new = fitted(method, 9)
    names = hungarian(old, new, 32)
    aligned = renamed(other, names)
    assert np.array_equal(aligned.encode(x), renamed_codes(new, names))
    np.testing.assert_allclose(aligned.errors(x, aligned.encode(x)), other.errors(x, new))
    assert churn(old, aligned.encode(x)).digits < churn(old, new).digits - 0.05


@given(st.integers(0, 2**31), st.integers(0, 300), st.integers(2, 20))
@settings(max_examples=50)
def test_names_are_a_bijection_and_greedy_is_near_hungarian(seed: int, n: int, size: int) -> None:
    rng = np.random.default_rng(seed)
    old, new = codes(rng, n, 3, size), codes(rng, n, 3, size)
    kept = []
    for align in (hungarian, greedy):
        names = align(old, new, size)
        assert (np.sort(names, axis=1) == np.arange(size)).all()
        kept.append((renamed_codes(new, names) == old).sum())
    # the largest pair first keeps at least half of the best matching, whatever the counts
    assert kept[0] <= 2 * kept[1] and kept[1] <= kept[0]
    best = 1 - np.array(churn(old, new).relabel_free)
    assert kept[0] == pytest.approx(best.sum() * n)


def test_codes_without_items_keep_their_names_and_larger_old_books_do_no_harm() -> None:
    old, new = np.array([[1], [1]], np.uint8), np.array([[2], [2]], np.uint8)
    for align in (hungarian, greedy):
        assert align(old, new, 4).tolist() == [[0, 2, 1, 3]]
        assert align(old + 9, new, 4).tolist() == [[0, 1, 2, 3]]


@given(st.integers(0, 2**31), st.integers(0, 200), st.integers(2, 6))
@settings(max_examples=60)
def test_paths_are_never_merged_and_names_go_back(seed: int, n: int, size: int) -> None:
    rng = np.random.default_rng(seed)
    old, new = codes(rng, n, 3, size), codes(rng, n, 3, size)
    nodes = path_names(old, new, size)
    everything = np.stack(np.meshgrid(*[np.arange(size)] * 3), -1).reshape(-1, 3).astype(np.uint8)
    named = nodes.named(everything)  # seen paths and unseen ones
    for depth in (1, 2, 3):
        before = len(np.unique(everything[:, :depth], axis=0))
        assert len(np.unique(named[:, :depth], axis=0)) == before
    assert np.array_equal(nodes.plain(named), everything)
    # no worse than one renaming of the first level, and as good there
    alone = renamed_codes(new[:, :1], hungarian(old[:, :1], new[:, :1], size))
    assert np.array_equal(nodes.named(new)[:, :1], alone)


def test_a_tree_of_other_names_at_every_node_is_no_churn() -> None:
    rng = np.random.default_rng(0)
    old = codes(rng, 400, 3, 5)
    new = old.copy()
    by_first, by_path = rng.permuted(np.tile(np.arange(5), (5, 1)), axis=1), {}
    new[:, 0] = np.array([4, 2, 0, 1, 3])[old[:, 0]]
    new[:, 1] = by_first[old[:, 0], old[:, 1]]
    for i, (a, b, c) in enumerate(old):
        new[i, 2] = by_path.setdefault((a, b), rng.permutation(5))[c]
    assert np.array_equal(path_names(old, new, 5).named(new), old)
    names = hungarian(old, new, 5)
    assert churn(old, renamed_codes(new, names)).items > 0.5  # one name a level can't undo it


def test_path_names_belong_to_the_tokenizer(tmp_path: Path) -> None:
    tokenizer, x, old = fitted(RQKMeans)
    other, _, new = fitted(RQKMeans, 9)
    aligned = along_paths(other, old, new)
    found = aligned.encode(x)
    assert np.array_equal(found, path_names(old, new, 32).named(new))
    by_level = renamed_codes(new, hungarian(old, new, 32))
    assert churn(old, found).items < churn(old, by_level).items
    np.testing.assert_array_equal(aligned.decode(found), other.decode(new))
    np.testing.assert_array_equal(aligned.errors(x, found), other.errors(x, new))
    np.testing.assert_array_equal(aligned.margins(x), other.margins(x))
    more = items(300, np.random.default_rng(8), kinds(5, seed=5))  # paths that nothing was on
    np.testing.assert_array_equal(
        aligned.decode(aligned.encode(more)), other.decode(other.encode(more))
    )
    aligned.save(tmp_path)
    loaded = load_tokenizer(tmp_path)
    assert np.array_equal(loaded.encode(x), found)
    assert np.array_equal(loaded.warm(x, 1).rows_of(found), new)
    with pytest.raises(UsageError, match="already"):
        along_paths(aligned, old, found)
    with pytest.raises(UsageError, match="tokenizer opq have no paths"):
        along_paths(fitted(OPQ)[0], old, new)
    assert tokenizer.nodes is None
