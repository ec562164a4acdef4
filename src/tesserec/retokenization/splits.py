"""Over-full codes are split, dead ones taken into use again; within a budget, every move told.

The larger half of a split code keeps it, the smaller one takes a dead code, so that what the model
has learnt of the code still holds for most of its items. Codes of retired items that a history
still holds are not dead.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from tesserec.encoders.rowwise import nearest, squared_norms
from tesserec.retokenization.budget import Budget, Spending
from tesserec.retokenization.halves import halves

OVERFULL = 3.0  # times the mean load of a code
CROWD = 8  # items that may share a code, or a whole tuple, however small the mean
_FAR = np.float32(1e15)  # a centre that nothing is nearest of: the place of a code to come


@dataclass(frozen=True, kw_only=True)
class Split:
    """One code's smaller half took another code."""

    digit: int
    code: int
    taken: int
    why: str  # overfull | dead (its code was free, and this one had the largest error) | crowd
    rows: np.ndarray  # int64, of the items that moved


@dataclass(frozen=True, kw_only=True)
class Repair:
    """A tokenizer with split codes, and the table that goes with it."""

    tokenizer: Any
    codes: np.ndarray  # [N, m]
    splits: list[Split]


def repair(
    tokenizer: Any,
    vectors: np.ndarray,
    codes: np.ndarray,
    shown: np.ndarray | None = None,
    budget: Budget | None = None,
    held: np.ndarray | None = None,
) -> Repair:
    """Split what is over-full among `codes` [N, m] of `vectors` [N, D], and revive dead codes.

    Over-full: more than three times the mean load, the fullest first. Then each dead code takes
    half of the code with the largest error. Of hierarchical codes whole tuples that too many items
    share are split at last, below their own prefix. A split that the budget (None: no limit) does
    not take whole is left out. `shown` [N]: impressions; None: alike. `held` [h, m]: codes of items
    that don't move and are no load, and yet are not dead; None: there are none.
    """
    weight = np.ones(len(codes)) if shown is None else np.asarray(shown, dtype=np.float64)
    spending = Spending(
        budget or Budget(items=1, impressions=1), weight, codes.shape[1], tokenizer.hierarchical
    )
    work = _Work(tokenizer, vectors, codes, spending, codes[:0] if held is None else held)
    # A level is seen through those above it; parallel digits are all on one level.
    digits = range(tokenizer.digits)
    for level in [[j] for j in digits] if tokenizer.hierarchical else [list(digits)]:
        while any([work.split(*place) for place in work.overfull(level)]):
            pass
        while any([work.split(*place) for place in work.with_largest_error(level)]):
            pass
    if tokenizer.hierarchical:
        while any([work.spread(rows) for rows in work.crowds()]):
            pass
    return work.result()


class _Work:
    """Centres, rows of them by item, and what was done."""

    def __init__(
        self,
        tokenizer: Any,
        vectors: np.ndarray,
        codes: np.ndarray,
        spending: Spending,
        held: np.ndarray,
    ) -> None:
        self.tokenizer, self.vectors, self.spending = tokenizer, vectors, spending
        self.hierarchical: bool = tokenizer.hierarchical
        self.codes = (tokenizer.rows_of(codes) if self.hierarchical else codes).copy()
        self.held = tokenizer.rows_of(held) if self.hierarchical else held
        self.centres = tokenizer.centres.copy()
        self.parts = None if self.hierarchical else tokenizer.parts(vectors)
        self.moved = np.zeros(len(codes), dtype=bool)  # a tuple that moves again costs nothing
        self.refused: set[tuple[int, int]] = set()
        self.splits: list[Split] = []

    def overfull(self, digits: list[int]) -> list[tuple[int, int, str]]:
        """(digit, code, why), the fullest first."""
        found = []
        for j in digits:
            loads = self._loads(j)
            limit = max(OVERFULL * len(self.codes) / len(loads), CROWD)
            found += [(-int(loads[c]), j, int(c)) for c in np.flatnonzero(loads > limit)]
        return [(j, c, "overfull") for _, j, c in sorted(found) if (j, c) not in self.refused]

    def with_largest_error(self, digits: list[int]) -> list[tuple[int, int, str]]:
        """(digit, code, why), as many codes of each digit as there are dead ones in use before."""
        found = []
        for j in digits:
            loads = self._loads(j)
            seen, own = self._seen(j), self.codes[:, j]
            errors = squared_norms(seen - self.centres[j][own])
            sums = np.bincount(own, weights=errors, minlength=len(loads))
            order = np.argsort(-sums, kind="stable")
            dead = len(self._dead(j))
            able = [int(c) for c in order if loads[c] > 1 and (j, int(c)) not in self.refused]
            found += [(-float(sums[c]), j, c) for c in able[:dead]]
        return [(j, c, "dead") for _, j, c in sorted(found)]

    def crowds(self) -> Iterator[np.ndarray]:
        """The items of each tuple that too many share, the largest crowd first."""
        _, at, counts = np.unique(self.codes, axis=0, return_inverse=True, return_counts=True)
        limit = max(OVERFULL * counts.mean(), CROWD) if len(counts) else 0
        for tuple_ in np.argsort(-counts, kind="stable"):
            if counts[tuple_] <= limit:
                return
            yield np.flatnonzero(at == tuple_)

    def split(self, j: int, code: int, why: str) -> bool:
        """Give half of a code's items a dead code; whether that was done."""
        free = self._free(j)
        rows = np.flatnonzero(self.codes[:, j] == code)
        seen = self._seen(j, rows)
        smaller = halves(seen) if free is not None else None
        if free is None or smaller is None or not self._pay(rows[smaller]):
            self.refused.add((j, code))
            return False
        if len(self.centres[j]) == free:
            grown = np.full_like(self.centres[:, :1], _FAR)
            self.centres = np.concatenate([self.centres, grown], axis=1)
        self.centres[j, free] = seen[smaller].mean(axis=0, dtype=np.float64)
        if not self.hierarchical:  # below a level that moved, other digits would be wrong
            self.centres[j, code] = seen[~smaller].mean(axis=0, dtype=np.float64)
        self._move(rows[smaller], j, free, why)
        return True

    def spread(self, rows: np.ndarray) -> bool:
        """Give half of the items of one tuple another last code; whether that was done.

        One that no item below the same prefix has: a dead one, else the nearest as it stands.
        """
        j, code = self.codes.shape[1] - 1, int(self.codes[rows[0], -1])
        below = (self.codes[:, :j] == self.codes[rows[0], :j]).all(axis=1)
        below_held = (self.held[:, :j] == self.codes[rows[0], :j]).all(axis=1)
        taken = np.concatenate([self.codes[below, j], self.held[below_held, j]])
        free = np.setdiff1d(np.arange(len(self.centres[j])), taken)
        free = free[self.centres[j][free, 0] < _FAR]
        seen = self._seen(j, rows)
        smaller = halves(seen)
        if smaller is None or not len(free) or not self._pay(rows[smaller]):
            return False
        middle = seen[smaller].mean(axis=0, dtype=np.float64).astype(np.float32)
        dead = np.intersect1d(free, self._dead(j))
        if len(dead):
            target = int(dead[0])
            self.centres[j, target] = middle
        else:
            target = int(free[nearest(middle[None], self.centres[j][free])[0]])
        self.codes[rows[smaller], j] = target
        self.splits.append(Split(digit=j, code=code, taken=target, why="crowd", rows=rows[smaller]))
        return True

    def result(self) -> Repair:
        """What became of it, in the tokenizer's own names."""
        other = self.tokenizer.with_centres(self.centres)
        codes = other.named(self.codes) if self.hierarchical else self.codes
        return Repair(tokenizer=other, codes=codes, splits=self.splits)

    def _move(self, rows: np.ndarray, j: int, target: int, why: str) -> None:
        code = int(self.codes[rows[0], j])
        self.codes[rows, j] = target
        for deeper in range(j + 1, self.codes.shape[1] if self.hierarchical else 0):
            self.codes[rows, deeper] = nearest(self._seen(deeper, rows), self.centres[deeper])
        self.splits.append(Split(digit=j, code=code, taken=target, why=why, rows=rows))

    def _pay(self, rows: np.ndarray) -> bool:
        if not self.hierarchical:
            return self.spending.take(rows)
        if not self.spending.take(rows[~self.moved[rows]]):
            return False
        self.moved[rows] = True
        return True

    def _free(self, j: int) -> int | None:
        """The lowest dead code of a digit, or the next one that the model's vocabulary has."""
        dead = self._dead(j)
        if len(dead):
            return int(dead[0])
        size = len(self.centres[j])
        return size if size < self.tokenizer.codebook_size else None

    def _loads(self, j: int) -> np.ndarray:
        return np.bincount(self.codes[:, j], minlength=len(self.centres[j]))

    def _dead(self, j: int) -> np.ndarray:
        """int64, rising: the codes of a digit that nobody has."""
        held = np.bincount(self.held[:, j], minlength=len(self.centres[j]))
        return np.flatnonzero((self._loads(j) == 0) & (held == 0))

    def _seen(self, j: int, rows: np.ndarray | slice = slice(None)) -> np.ndarray:
        """float32 [n, E]: what a digit sees of items, given their digits before it."""
        if self.parts is not None:
            return self.parts[j][rows]
        left = self.vectors[rows].astype(np.float32)
        for above in range(j):
            left -= self.centres[above][self.codes[rows, above]]
        return left
