"""Equal scores in an order of their own for each seed, the same whatever decoder brings them.

Without a seed the lowest row comes first. With one, a hash of seed and row decides, also about who
is among the first k at all: where the score at the cut goes on behind it, a longer list is taken.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from tesserec.decoders.constraints import Constraints
    from tesserec.decoders.ranking import Ranked

    Top = Callable[[list[int], int, Constraints, np.ndarray | None], Ranked]

# Of so many items with one score the order is drawn, the lowest rows; the others follow by row.
# So a list of k + TIES items is always long enough, and its first places don't depend on k.
TIES = 1024


def seeded(top: Top, seeds: Sequence[int | None]) -> Top:
    """`top`, whose equal scores come in the order of each user's seed; None: lowest row first."""

    def ranked(users: list[int], k: int, rules: Constraints, only: np.ndarray | None) -> Ranked:
        drawn = [place for place, user in enumerate(users) if seeds[user] is not None]
        plain = [place for place, user in enumerate(users) if seeds[user] is None]
        found: dict[int, Ranked] = {}

        def ask(places: list[int], many: int) -> None:
            if places:
                these = [users[place] for place in places]
                rows, scores = top(these, many, rules.of(places), only)
                found.update(zip(places, zip(rows, scores, strict=True), strict=True))

        ask(plain, k)
        ask(drawn, k + 1)
        ask([place for place in drawn if _goes_on(found[place][1], k)], k + TIES)
        for place in drawn:
            rows, scores = found[place]
            order = drawn_order(rows, scores, seeds[users[place]] or 0)[:k]
            found[place] = rows[order], scores[order]
        both = [found[place] for place in range(len(users))]
        return np.stack([rows for rows, _ in both]), np.stack([scores for _, scores in both])

    return ranked


def drawn_order(rows: np.ndarray, scores: np.ndarray, seed: int) -> np.ndarray:
    """Places of a list, best first and of equals the lowest row first, in the order of a seed."""
    starts = np.r_[True, scores[1:] != scores[:-1]]
    firsts = np.flatnonzero(starts)
    place = np.arange(len(rows)) - firsts[np.cumsum(starts) - 1]  # among its equals
    late = place >= TIES
    return np.lexsort((np.where(late, place.astype(np.uint64), mix(seed, rows)), late, -scores))


def mix(seed: int, rows: np.ndarray) -> np.ndarray:
    """uint64 hashes of (seed, row), all different for one seed (the last step of splitmix64)."""
    x = np.asarray(rows).astype(np.uint64) ^ np.uint64((seed & 0xFFFFFFFF) << 32)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def _goes_on(scores: np.ndarray, k: int) -> bool:
    """Whether the item behind the first k is as good as the last of them."""
    return len(scores) > k and scores[k - 1] == scores[k] and bool(np.isfinite(scores[k]))
