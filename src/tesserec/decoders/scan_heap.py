"""The k best of a stream of items: a heap whose first entry is the worst of them.

Worse is the lower score, among equals the higher row.
"""

from __future__ import annotations

import numpy as np

from tesserec.decoders.scan_tables import kernel


@kernel
def denied(rows: np.ndarray, start: int, stop: int, row: int) -> bool:
    """Whether `row` is among the sorted rows[start:stop]."""
    while start < stop:
        middle = (start + stop) // 2
        if rows[middle] < row:
            start = middle + 1
        elif rows[middle] > row:
            stop = middle
        else:
            return True
    return False


@kernel
def worse(scores: np.ndarray, rows: np.ndarray, a: int, b: int) -> bool:
    return scores[a] < scores[b] or (scores[a] == scores[b] and rows[a] > rows[b])


@kernel
def swap(scores: np.ndarray, rows: np.ndarray, a: int, b: int) -> None:
    scores[a], scores[b] = scores[b], scores[a]
    rows[a], rows[b] = rows[b], rows[a]


@kernel
def sink(scores: np.ndarray, rows: np.ndarray, size: int) -> None:
    """Put the first entry where it belongs."""
    at = 0
    while 2 * at + 1 < size:
        child = 2 * at + 1
        if child + 1 < size and worse(scores, rows, child + 1, child):
            child += 1
        if not worse(scores, rows, child, at):
            return
        swap(scores, rows, child, at)
        at = child


@kernel
def push(
    scores: np.ndarray, rows: np.ndarray, filled: np.ndarray, user: int, score: float, row: int
) -> None:
    """Take an item in; a full heap gives its worst for it. A sum that overflowed is no item."""
    if score == -np.inf:
        return
    if filled[user] == len(scores):
        scores[0], rows[0] = score, row
        sink(scores, rows, len(scores))
        return
    at = filled[user]
    scores[at], rows[at] = score, row
    filled[user] += 1
    while at > 0 and worse(scores, rows, at, (at - 1) // 2):
        swap(scores, rows, at, (at - 1) // 2)
        at = (at - 1) // 2


@kernel
def sort_heaps(scores: np.ndarray, rows: np.ndarray, filled: np.ndarray) -> None:
    """Best first; unused places hold row -1 and score -inf."""
    for user in range(len(scores)):
        size = filled[user]
        rows[user, size:], scores[user, size:] = -1, -np.inf
        for last in range(size - 1, 0, -1):
            swap(scores[user], rows[user], 0, last)
            sink(scores[user], rows[user], last)
