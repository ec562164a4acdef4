"""New names for the codes of a tokenizer that was fitted anew: those of the codes before.

Only names can be saved: where the new tokenizer cuts the items in other ways, the best renaming
leaves most tuples changed (`Churn.relabel_free` is what any renaming must leave).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tesserec.retokenization.matching import best_pairs, together


def hungarian(old: np.ndarray, new: np.ndarray, size: int) -> np.ndarray:
    """int64 [m, size]: the name of each new code, so that most digits of [N, m] keep theirs."""
    pairs = zip(old.T, new.T, strict=True)
    return np.stack([best_pairs(_overlap(a, b, size)) for a, b in pairs])


def greedy(old: np.ndarray, new: np.ndarray, size: int) -> np.ndarray:
    """As `hungarian`, by taking the pair with most items each time: quicker, hardly worse."""
    pairs = zip(old.T, new.T, strict=True)
    return np.stack([_largest_first(_overlap(a, b, size)) for a, b in pairs])


def renamed_codes(codes: np.ndarray, names: np.ndarray) -> np.ndarray:
    """Codes [N, m] under their names [m, size]."""
    digits = np.arange(codes.shape[1])
    return names[digits, codes].astype(codes.dtype)


def renamed(tokenizer: Any, names: np.ndarray) -> Any:
    """The same tokenizer with its centres in the order of their names [m, C].

    Its codes are the renamed ones, except where two centres are equally near: then the lowest
    name is taken, whatever it was before.
    """
    centres = np.empty_like(tokenizer.centres)
    for j, order in enumerate(names):
        centres[j][order] = tokenizer.centres[j]
    return tokenizer.with_centres(centres)


def _overlap(old: np.ndarray, new: np.ndarray, size: int) -> np.ndarray:
    """int64 [size, size]; an old code beyond `size` has no namesake (the old book was larger)."""
    known = old < size
    return together(new[known], old[known], size)


def _largest_first(counts: np.ndarray) -> np.ndarray:
    size = len(counts)
    names = np.full(size, -1, dtype=np.int64)
    free = np.ones(size, dtype=bool)
    rows, columns = np.nonzero(counts)
    for i in np.argsort(-counts[rows, columns], kind="stable"):
        row, column = rows[i], columns[i]
        if names[row] < 0 and free[column]:
            names[row], free[column] = column, False
    for row in np.flatnonzero(names < 0):  # without items: its own name if that is free
        if free[row]:
            names[row], free[row] = row, False
    names[names < 0] = np.flatnonzero(free)
    return names
