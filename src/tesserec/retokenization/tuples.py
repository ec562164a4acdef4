"""Codes that are not to be given again: those of retired items that some history still holds.

A new item with a retired item's code would inherit its popularity. It gets the nearest code that
is free instead: the one digit is changed whose change costs least.
"""

from __future__ import annotations

from typing import Any

import numpy as np


class Taken:
    """Tuples that only retired items have.

    Args:
        codes: [N, m]. retired, shown: bool [N]; a purged item is neither. tokenizer: tells what a
            code stands for.
    """

    def __init__(
        self, codes: np.ndarray, retired: np.ndarray, shown: np.ndarray, tokenizer: Any
    ) -> None:
        self._tokenizer = tokenizer
        self._tuples: set[bytes] = set()
        if retired.any():
            keys = _keys(codes)
            alike = shown & np.isin(keys, keys[retired])
            own = {code.tobytes() for code in codes[retired]}
            self._tuples = own - {code.tobytes() for code in codes[alike]}

    def free(self, vector: np.ndarray, code: np.ndarray) -> np.ndarray:
        """The code [m], or the nearest one that differs in one digit and is free.

        Among equally near ones the lowest digit with the lowest code. If none is free, the code
        itself: more than 256 retired look-alikes are one product.
        """
        if code.tobytes() not in self._tuples:
            return code
        digits, size = len(code), self._tokenizer.centres.shape[1]
        others = np.repeat(code[None], digits * size, axis=0)
        at = np.repeat(np.arange(digits), size)
        others[np.arange(len(others)), at] = np.tile(np.arange(size), digits).astype(code.dtype)
        far = ((self._tokenizer.decode(others) - vector) ** 2).sum(axis=1)
        for place in np.argsort(far, kind="stable"):
            if others[place].tobytes() not in self._tuples:
                return others[place]
        return code


def _keys(codes: np.ndarray) -> np.ndarray:
    """uint64 [N]: equal for equal rows, and hardly ever for others; rows in Python are slow."""
    keys = np.zeros(len(codes), np.uint64)
    for digit in codes.T:
        keys = keys * np.uint64(0x9E3779B97F4A7C15) + digit  # wraps around
    return keys
