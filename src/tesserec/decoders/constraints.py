"""What a ranking may contain: bitsets shared by a batch, sparse rows per user, quotas and caps.

How they combine: an item must be allowed, allowed for this user and not denied. Among these, the
ranking goes by score (equal scores: lowest row first, or as the user's seed says), skips items
whose group is full (cap), and keeps as many places free as the quota still needs. Only if the quota
can't be met in this way are the best quota items seated first, however low their scores.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from tesserec.errors import TesserecError

Rows = np.ndarray | None  # int64 item rows of one user; None: no rule


@dataclass(frozen=True, kw_only=True)
class Constraints:
    """Rules for a batch of B users over N items; every part may be absent."""

    allowed: np.ndarray | None = (
        None  # uint8 [ceil(N/8)], bit i of the little end first: may be shown
    )
    deny: Sequence[Rows] | None = None  # B entries: never these
    allow: Sequence[Rows] | None = None  # B entries: only these; an empty array allows nothing
    quota: tuple[np.ndarray, int] | None = None  # (packed bits, q): at least q of these
    cap: tuple[np.ndarray, int] | None = (
        None  # (group int32 [N], -1: none; c): at most c of a group
    )
    seeds: Sequence[int | None] | None = None  # B entries: equal scores in an order of this seed

    def of(self, users: Sequence[int]) -> Constraints:
        """The rules of some users of the batch, in this order."""

        def some(entries: Sequence[Any] | None) -> list[Any] | None:
            return None if entries is None else [entries[user] for user in users]

        return replace(self, deny=some(self.deny), allow=some(self.allow), seeds=some(self.seeds))

    def check(self, users: int, items: int) -> None:
        """Refuse rules made for another batch or another catalogue.

        Raises:
            TesserecError: a part has the wrong size; it names the part.
        """
        packed = (items + 7) // 8
        for name, bits in (("allowed", self.allowed), ("quota", self.quota and self.quota[0])):
            if bits is not None and (bits.dtype != np.uint8 or len(bits) != packed):
                raise TesserecError(
                    f"constraint '{name}' has {len(bits)} {bits.dtype}, a catalogue of {items} "
                    f"items takes {packed} uint8; make it with pack_bits"
                )
        for name, rows in (("deny", self.deny), ("allow", self.allow), ("seeds", self.seeds)):
            if rows is not None and len(rows) != users:
                raise TesserecError(f"constraint '{name}' has {len(rows)} entries, not {users}")
        if self.cap is not None and len(self.cap[0]) != items:
            raise TesserecError(f"constraint 'cap' groups {len(self.cap[0])} items, not {items}")


def pack_bits(mask: np.ndarray) -> np.ndarray:
    """bool [N] -> packed bits, uint8 [ceil(N/8)]."""
    return np.packbits(np.asarray(mask, dtype=bool), bitorder="little")


def unpack_bits(bits: np.ndarray, start: int, stop: int) -> np.ndarray:
    """bool [stop - start] of packed bits; unpacks only the bytes that it needs."""
    first = start // 8
    part = np.unpackbits(bits[first : (stop + 7) // 8], bitorder="little")
    return part[start - 8 * first : stop - 8 * first].astype(bool)


def bits_at(bits: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """bool [...]: the bits of single rows."""
    return (bits[rows >> 3] >> (rows & 7)).astype(np.uint8) & 1 == 1


def count_bits(bits: np.ndarray) -> int:
    """How many of the packed bits are set."""
    return int.from_bytes(bits.tobytes(), "little").bit_count()


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
