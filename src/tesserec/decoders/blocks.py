"""Codes and masks as the scans read them: items in blocks of a fixed size, the last filled up."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def in_blocks(codes: np.ndarray, size: int) -> np.ndarray:
    """Codes [N, m] -> [n, m, size], a block's digits one behind the other; filled with zeros."""
    items, digits = codes.shape
    out = np.zeros((-(-items // size), digits, size), codes.dtype)
    for block in range(len(out)):
        part = codes[block * size : (block + 1) * size]
        out[block, :, : len(part)] = part.T
    return out


def open_bits(items: int, blocks: int, size: int, masks: Sequence[np.ndarray]) -> np.ndarray:
    """uint8 [blocks * size / 8]: items that all packed masks let pass, none behind the last."""
    bits = np.zeros(blocks * size // 8, np.uint8)
    bits[: items // 8] = 255
    if items % 8:
        bits[items // 8] = (1 << items % 8) - 1
    for mask in masks:
        bits[: len(mask)] &= mask
    return bits


def within(rows: np.ndarray | None, items: int) -> np.ndarray:
    """The distinct rows of the catalogue among these, sorted int64."""
    if rows is None:
        return np.empty(0, np.int64)
    distinct = np.unique(np.asarray(rows, np.int64))
    return distinct[(distinct >= 0) & (distinct < items)]
