"""Packed masks of one release, made once and shared by equal rules."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable

import numpy as np

CACHE_BYTES = 64 * 2**20  # 500 masks of a million items
ENTRY_BYTES = 700  # of an array, a small rule and their place, beside the bits; measured
Told = Callable[[str], None]  # hit | miss


class Masks:
    """The masks used last, as many as fit into `CACHE_BYTES`, and always the last one."""

    def __init__(self) -> None:
        self._masks: OrderedDict[Hashable, tuple[np.ndarray, int]] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    def get(
        self,
        rule: Hashable,
        make: Callable[[], np.ndarray],
        told: Told | None = None,
        *,
        rule_bytes: int = 0,
    ) -> np.ndarray:
        """The mask of a rule: a remembered one, or what `make` returns, read only.

        `rule_bytes`: what the rule itself takes; of ten thousand facets it is more than the mask.
        """
        with self._lock:
            found = self._masks.get(rule)
            if found is not None:
                self._masks.move_to_end(rule)
        if told is not None:
            told("miss" if found is None else "hit")
        if found is not None:
            return found[0]
        made = make()
        made.flags.writeable = False
        with self._lock:
            if rule not in self._masks:
                size = made.nbytes + ENTRY_BYTES + rule_bytes
                self._masks[rule] = made, size
                self._bytes += size
            while self._bytes > CACHE_BYTES and len(self._masks) > 1:
                self._bytes -= self._masks.popitem(last=False)[1][1]
        return made
