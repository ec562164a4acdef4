"""Rankings under quotas and caps: chosen from longer lists than k, as long as it takes to be sure.

What decides are the best c items of each group, and its best c quota items (c: the cap). So a list
that was too short is made longer without the groups whose best c are known: even where hardly any
item may follow, no long list is needed. Legend of shapes: N items, B users.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from tesserec.decoders.constraints import Constraints, bits_at, pack_bits
from tesserec.decoders.ties import mix

LONGER = 4  # times k, and then times the list before
NEVER = -np.inf

Ranked = tuple[np.ndarray, np.ndarray]
Top = Callable[[list[int], int, Constraints, np.ndarray | None], Ranked]


def rank_with_quota_and_cap(
    top: Top, users: list[int], items: int, k: int, rules: Constraints
) -> Ranked:
    """Rows int64 [B, k] and scores float32 [B, k] of some users, as `ranking.rank_under` has them.

    `top` is `ranking.Top`; its equals come in the order of the users' seeds.
    """
    out_rows = np.full((len(users), k), -1, dtype=np.int64)
    out_scores = np.full((len(users), k), NEVER, dtype=np.float32)
    for place, pool in enumerate(_pools(top, users, items, LONGER * k, rules)):
        width, chosen = LONGER * k, _choose(pool, k, rules)
        while chosen is None:
            width *= LONGER
            pool = _longer(top, users[place], items, width, rules, pool)
            chosen = _choose(pool, k, rules)
        out_rows[place, : len(chosen)] = pool.rows[chosen]
        out_scores[place, : len(chosen)] = pool.scores[chosen]
    return out_rows, out_scores


@dataclass(frozen=True)
class _Pool:
    """One user's best items and best quota items, merged: rows and scores, best first."""

    rows: np.ndarray
    scores: np.ndarray
    cut: int | None  # behind this place only quota items are complete; None: nothing is missing
    every_quota: bool  # no quota item is missing at all


def _pools(top: Top, users: list[int], items: int, width: int, rules: Constraints) -> list[_Pool]:
    """For each user the best `width` items and the best `width` quota items."""
    part = rules.masks_of(users)
    rows, scores = top(users, width, part, None)
    more = top(users, width, part, rules.quota[0]) if rules.quota is not None else None
    pools = []
    for place, user in enumerate(users):
        whole = _List(rows[place], scores[place], items)
        first = _Pool(whole.rows, whole.scores, len(whole.rows), rules.quota is None)
        quota = [] if more is None else [_List(more[0][place], more[1][place], items)]
        pools.append(_joined(first, whole, quota, _seed(rules, user)))
    return pools


def _longer(top: Top, user: int, items: int, width: int, rules: Constraints, pool: _Pool) -> _Pool:
    """The pool and the next best items of groups of which more than is known might be shown."""
    assert rules.cap is not None, "without a cap the first list is long enough"
    cap, part = rules.cap, rules.masks_of([user])

    def best(known: np.ndarray, only: np.ndarray | None) -> _List:
        bits = _unsettled(cap, known)
        rows, scores = top([user], width, part, bits if only is None else bits & only)
        return _List(rows[0], scores[0], items)

    whole, quota = best(pool.rows[: pool.cut], None), []
    if rules.quota is not None and not pool.every_quota:
        member = bits_at(rules.quota[0], pool.rows)
        quota = [best(pool.rows[member], rules.quota[0])]
    return _joined(pool, whole, quota, _seed(rules, user))


def _unsettled(cap: tuple[np.ndarray, int], rows: np.ndarray) -> np.ndarray:
    """Packed bits of the items whose group isn't full with these rows."""
    group, most = cap
    counts = np.bincount(group[rows] + 1, minlength=int(group.max(initial=-1)) + 2)
    full = counts >= most
    full[0] = False  # items without a group
    return pack_bits(~full[group + 1])


class _List:
    """A list of a decoder, without the unused places behind its end."""

    def __init__(self, rows: np.ndarray, scores: np.ndarray, items: int) -> None:
        self.rows, self.scores = rows[rows >= 0], scores[rows >= 0]
        self.all = len(self.rows) < len(rows) or len(rows) >= items


def _joined(pool: _Pool, whole: _List, quota: list[_List], seed: int | None) -> _Pool:
    """A pool with what lists of all items and of quota items (there may be none) add to it.

    Up to its cut the pool keeps its order. Of equals behind it the lower row is first, or the one
    that the seed says.
    """
    old, lists = pool.rows[: pool.cut], [pool, whole, *quota]
    rows = np.concatenate([one.rows for one in lists])
    scores = np.concatenate([one.scores for one in lists])
    first = np.sort(np.unique(rows, return_index=True)[1])
    rows, scores = rows[first], scores[first]
    fresh = np.arange(len(rows)) >= len(old)
    key = rows.astype(np.uint64) if seed is None else mix(seed, rows)
    key[: len(old)] = np.arange(len(old))
    order = np.lexsort((key, fresh, -scores))
    rows, scores = rows[order], scores[order]
    cut = None if whole.all else int(np.flatnonzero(rows == whole.rows[-1])[0]) + 1
    return _Pool(rows, scores, cut, pool.every_quota or any(one.all for one in quota))


def _seed(rules: Constraints, user: int) -> int | None:
    return None if rules.seeds is None else rules.seeds[user]


def _choose(pool: _Pool, k: int, rules: Constraints) -> list[int] | None:
    quota, need = rules.quota or (None, 0)
    group, cap = rules.cap or (None, 0)
    return choose(
        pool.rows,
        k,
        cut=pool.cut,
        in_quota=None if quota is None else bits_at(quota, pool.rows),
        every_quota=pool.every_quota,
        need=need,
        group=None if group is None else group[pool.rows],
        cap=cap,
    )


def choose(
    rows: np.ndarray,
    k: int,
    *,
    cut: int | None,
    in_quota: np.ndarray | None,
    every_quota: bool = False,
    need: int,
    group: np.ndarray | None,
    cap: int,
) -> list[int] | None:
    """Positions of `rows` to show, best first, or None if a longer list is needed to be sure.

    Args:
        rows: allowed items, best first; complete for all items up to position `cut`, and after
            that for quota items only. `cut` None: nothing was left out.
        in_quota: bool, aligned with rows. need: how many of them there should be.
        every_quota: whether all quota items that may be shown are among the rows.
        group: int, aligned with rows; -1 is no group. cap: how many of one group there may be.
    """
    quota = in_quota if in_quota is not None else np.zeros(len(rows), dtype=bool)
    need = min(need, k) if in_quota is not None else 0
    chosen, complete = _walk(quota, k, need, group, cap, cut)
    met = int(quota[chosen].sum()) >= need
    if complete and len(chosen) == k and met:
        return chosen
    if cut is not None and not (complete and every_quota):
        return None
    if not met:  # seat the quota first: the greedy choice under caps is the largest there is
        chosen, _ = _walk(quota, need, need, group, cap, None, only=quota)
    chosen = _fill(chosen, len(rows) if cut is None else cut, k, group, cap)
    return None if cut is not None and len(chosen) < k else sorted(chosen)


def _walk(
    quota: np.ndarray,
    k: int,
    need: int,
    group: np.ndarray | None,
    cap: int,
    cut: int | None,
    only: np.ndarray | None = None,
) -> tuple[list[int], bool]:
    """Down the list, keeping `need` places for quota items; and was the list long enough?"""
    chosen: list[int] = []
    counts: dict[int, int] = {}
    for position in range(len(quota)):
        if len(chosen) == k:
            break
        reserved = k - len(chosen) <= need
        if cut is not None and position >= cut and not reserved:
            return chosen, False
        if (only is not None and not only[position]) or (reserved and not quota[position]):
            continue
        if group is not None and not _seat(counts, int(group[position]), cap):
            continue
        need -= bool(quota[position])
        chosen.append(position)
    return chosen, True


def _fill(seated: list[int], total: int, k: int, group: np.ndarray | None, cap: int) -> list[int]:
    """Add the best of the rest to those already seated."""
    counts: dict[int, int] = {}
    for position in seated:
        if group is not None:
            _seat(counts, int(group[position]), cap)
    chosen, taken = list(seated), set(seated)
    for position in range(total):
        if len(chosen) >= k:
            break
        if position in taken:
            continue
        if group is None or _seat(counts, int(group[position]), cap):
            chosen.append(position)
    return chosen


def _seat(counts: dict[int, int], group: int, cap: int) -> bool:
    if group < 0:
        return True
    if counts.get(group, 0) >= cap:
        return False
    counts[group] = counts.get(group, 0) + 1
    return True
