"""Several histories in one row: nothing is spent on padding every user to full length.

Legend of shapes: R packed rows, W positions a row, T targets.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

ROW_WIDTH = 64  # at least the 50 positions of the longest history; wider rows only make more mask


@dataclass(frozen=True)
class Packed:
    """Histories side by side; positions start anew in each, and none sees its neighbour."""

    items: torch.Tensor  # int64 [R, W] item rows; 0 where empty
    positions: torch.Tensor  # int64 [R, W]
    segments: torch.Tensor  # int32 [R, W] number of the history; -1 where empty

    def to(self, device: torch.device) -> Packed:
        parts = (self.items, self.positions, self.segments)
        return Packed(*(t.to(device, non_blocking=True) for t in parts))

    def pinned(self) -> Packed:
        """In memory that a GPU copies from while it computes."""
        return Packed(*(t.pin_memory() for t in (self.items, self.positions, self.segments)))

    def mask(self) -> torch.Tensor:
        """bool [R, 1, W, W]: position q sees position k of the same history, if not after it."""
        same = self.segments[:, :, None] == self.segments[:, None, :]
        return torch.tril(same)[:, None]


@dataclass(frozen=True)
class Batch:
    """One training step: packed inputs, and where which item is to be predicted."""

    inputs: Packed
    target_at: torch.Tensor  # int64 [T] flat index into [R * W]
    target_items: torch.Tensor  # int64 [T] item rows

    def to(self, device: torch.device) -> Batch:
        parts = (self.target_at, self.target_items)
        return Batch(self.inputs.to(device), *(t.to(device, non_blocking=True) for t in parts))

    def pinned(self) -> Batch:
        """See `Packed.pinned`."""
        return Batch(
            self.inputs.pinned(), self.target_at.pin_memory(), self.target_items.pin_memory()
        )


def pack(histories: Sequence[np.ndarray], width: int = ROW_WIDTH) -> tuple[Packed, np.ndarray]:
    """Lay histories (item rows, oldest first, each at most `width` long) into few rows.

    Returns the rows and, for each history, the flat index of its first position (int64 [n]).
    A call with little to pack gets rows that are no wider than needed.
    """
    lengths = np.array([len(h) for h in histories], dtype=np.int64)
    width = int(min(width, max(lengths.sum(), 1)))
    starts, rows = _best_fit(lengths, width)
    items = np.zeros(rows * width, dtype=np.int64)
    positions = np.zeros(rows * width, dtype=np.int64)
    segments = np.full(rows * width, -1, dtype=np.int32)
    if lengths.sum():
        within = np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        at = np.repeat(starts, lengths) + within
        items[at] = np.concatenate(histories)
        positions[at] = within
        segments[at] = np.repeat(np.arange(len(lengths), dtype=np.int32), lengths)
    shape = (rows, width)
    packed = Packed(
        torch.from_numpy(items.reshape(shape)),
        torch.from_numpy(positions.reshape(shape)),
        torch.from_numpy(segments.reshape(shape)),
    )
    return packed, starts


def _best_fit(lengths: np.ndarray, width: int) -> tuple[np.ndarray, int]:
    """Longest first, each into the fullest row that still takes it; deterministic."""
    starts = np.zeros(len(lengths), dtype=np.int64)
    free: list[list[int]] = [[] for _ in range(width + 1)]  # rows by what is left in them
    rows = 0
    for index in np.argsort(-lengths, kind="stable"):
        need = int(lengths[index])
        left = next((room for room in range(need, width) if free[room]), width)
        row = free[left].pop() if free[left] else rows
        rows += row == rows
        starts[index] = row * width + width - left
        free[left - need].append(row)
    return starts, max(rows, 1)
