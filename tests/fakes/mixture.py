"""Vectors of a shop without data: items of many kinds, some of which can be held back."""

from __future__ import annotations

import numpy as np

DIM = 32


def kinds(n: int, seed: int = 0) -> np.ndarray:
    """[n, DIM]: the centres of n kinds of items."""
    return np.random.default_rng([seed, 7]).standard_normal((n, DIM))


def items(n: int, rng: np.random.Generator, centres: np.ndarray) -> np.ndarray:
    """float32 [n, DIM]: each near one of the `centres` [K, DIM], these equally likely."""
    chosen = centres[rng.integers(0, len(centres), n)]
    return (chosen + 0.7 * rng.standard_normal(chosen.shape)).astype(np.float32)
