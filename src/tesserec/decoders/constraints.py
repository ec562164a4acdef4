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

    def masks_of(self, users: Sequence[int]) -> Constraints:
        """What a decoder itself reads of the rules of some users."""
        return replace(self.of(users), quota=None, cap=None, seeds=None)

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
