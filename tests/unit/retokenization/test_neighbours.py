"""Quarantined items' neighbours beside brute force; codes that are not to be given again."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tesserec.retokenization import neighbours
from tesserec.retokenization.neighbours import Neighbours
from tesserec.retokenization.tuples import Taken


@given(st.integers(0, 2**32 - 1), st.integers(1, 40), st.integers(0, 12), st.integers(1, 7))
def test_the_nearest_active_item(seed: int, count: int, asked: int, block: int) -> None:
    """Over parts in any order, some of whose rows are others' by now; ties to the lowest row."""
    rng = np.random.default_rng(seed)
    vectors = rng.integers(-2, 3, (count, 3)).astype(np.float32)
    active = rng.random(count) < 0.7
    order = rng.permutation(count)
    cuts = np.sort(rng.integers(0, count + 1, 2))
    parts = []
    for rows in np.split(order, cuts):
        old = rng.random(len(rows)) < 0.3  # stale ones beside them
        stale = np.full((int(old.sum()), 3), 0.5, np.float32)
        joined = np.concatenate([rows, np.full(int(old.sum()), -1)])
        parts.append((joined, np.concatenate([vectors[rows], stale])))
    codes = np.arange(count, dtype=np.uint8)[:, None]
    wanted = rng.integers(-2, 3, (asked, 3)).astype(np.float32)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(neighbours, "BLOCK", block)
        patch.setattr(neighbours, "QUERIES", 5)
        found = Neighbours(lambda: parts, codes, active).codes(wanted)
    if not active.any():
        return
    far = ((wanted[:, None] - vectors[None]) ** 2).sum(axis=2)
    far[:, ~active] = np.inf
    assert found[:, 0].tolist() == far.argmin(axis=1).tolist()


def line() -> SimpleNamespace:
    """A tokenizer of two digits with four centres each: 0, 1, 2, 3."""
    centres = np.arange(4, dtype=np.float32)[None, :, None].repeat(2, axis=0)
    return SimpleNamespace(centres=centres, decode=lambda codes: codes.astype(np.float32))


def test_a_taken_code_gives_way_to_the_nearest_free_one() -> None:
    codes = np.array([[1, 1], [1, 2], [2, 2], [2, 2]], np.uint8)
    retired = np.array([True, True, True, False])
    taken = Taken(codes, retired, ~retired, line())
    asked = np.array([1.1, 1.0], np.float32)
    assert taken.free(asked, np.array([1, 1], np.uint8)).tolist() == [2, 1]  # [1, 2] is taken too
    assert taken.free(asked, np.array([2, 2], np.uint8)).tolist() == [2, 2], "shown by another"
    purged = np.array([False, True, False, False])
    rest = Taken(codes, retired & ~purged, ~retired, line())
    assert rest.free(asked, np.array([1, 2], np.uint8)).tolist() == [1, 2], "free again"


def test_where_nothing_is_free_the_code_is_shared() -> None:
    codes = np.array([[a, b] for a in range(4) for b in range(4)], np.uint8)
    taken = Taken(codes, np.ones(16, bool), np.zeros(16, bool), line())
    assert taken.free(np.zeros(2, np.float32), codes[5]).tolist() == codes[5].tolist()
