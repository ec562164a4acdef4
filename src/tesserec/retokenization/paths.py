"""Renaming along paths: below a digit that means the same as before, children get their old names.

One renaming a level saves next to nothing of hierarchical codes, since the second digit of a new
tokenizer means something else below each first digit. The price: a deep digit no longer means the
same below different first digits.
"""

from __future__ import annotations

import numpy as np

from tesserec.errors import UsageError, need
from tesserec.retokenization.matching import best_pairs, together
from tesserec.tokenizers.nodes import Level, Nodes
from tesserec.tokenizers.rqkmeans import RQKMeans


def along_paths(tokenizer: RQKMeans, old: np.ndarray, new: np.ndarray) -> RQKMeans:
    """The tokenizer whose codes are the renamed ones of `new` [N, m], nearest to `old` [N, m].

    Raises:
        UsageError: a tokenizer of parallel codes, or one that has names already.
    """
    if not tokenizer.hierarchical:
        raise UsageError(
            f"the codes of tokenizer {tokenizer.name} have no paths to rename; use hungarian"
        )
    if tokenizer.nodes is not None:
        raise UsageError("the tokenizer has names of its own already; fit a new one")
    other = tokenizer.with_centres(tokenizer.centres)
    other.nodes = path_names(old, new, tokenizer.centres.shape[1])
    return other


def path_names(old: np.ndarray, new: np.ndarray, size: int) -> Nodes:
    """Names of the codes `new` [N, m] < size: one permutation at each node that has items."""
    agree = np.ones(len(old), dtype=bool)  # items whose names are the old ones so far
    node = np.zeros(len(old), dtype=np.int64)
    levels = []
    for j in range(old.shape[1]):
        a, b = old[:, j].astype(np.int64), new[:, j].astype(np.int64)
        moved, names = _names_of_level(a, b, node, agree, size, first=j == 0)
        key = node * size + b
        known, child = np.unique(key, return_inverse=True)
        levels.append(Level(known=known, moved=moved, names=names))
        name = b.copy()
        if len(moved):
            at = np.searchsorted(moved, key).clip(max=len(moved) - 1)
            name = np.where(moved[at] == key, names[at], b)
        agree &= name == a
        node = child.astype(np.int64)
    return Nodes(levels, size)


def _names_of_level(
    old: np.ndarray, new: np.ndarray, node: np.ndarray, agree: np.ndarray, size: int, first: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Keys, ascending, and names of the codes that are renamed at the nodes of one level."""
    agree = agree & (old < size)
    if first:
        pairs = best_pairs(together(new[agree], old[agree], size))
        moved = np.flatnonzero(pairs != np.arange(size))
        return moved, pairs[moved]
    rows = np.flatnonzero(agree)
    rows = rows[np.argsort(node[rows], kind="stable")]
    starts = np.flatnonzero(np.diff(node[rows], prepend=-1))
    keys: list[np.ndarray] = []
    names: list[np.ndarray] = []
    for items in np.split(rows, starts[1:]):
        if len(items):
            codes, to = _children(old[items], new[items])
            keys.append(node[items[0]] * size + codes)
            names.append(to)
    if not keys:
        return np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)
    order = np.argsort(np.concatenate(keys))
    return np.concatenate(keys)[order], np.concatenate(names)[order]


def _children(old: np.ndarray, new: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Codes below one node that change their name, and the names: together a permutation."""
    try:
        from scipy.optimize import linear_sum_assignment
    except ModuleNotFoundError:
        raise need("scipy", "train") from None
    codes, at = np.unique(new, return_inverse=True)
    names, to = np.unique(old, return_inverse=True)
    counts = np.zeros((len(codes), len(names)))
    np.add.at(counts, (at, to), 1)
    row, column = linear_sum_assignment(counts, maximize=True)
    met = counts[row, column] > 0
    source, target = codes[row[met]], names[column[met]]
    # A code whose name is given away takes one that became free.
    displaced = np.setdiff1d(target, source)
    freed = np.setdiff1d(source, target)
    source, target = np.append(source, displaced), np.append(target, freed)
    return source[source != target], target[source != target]
