"""A batch in the layout of the released code, written independently of packing."""

from __future__ import annotations

import numpy as np
import torch

from tesserec.models.packed import Batch, Packed


def padded(batch_of: list[np.ndarray]) -> Batch:
    """One user a row, padded to 50; every event after a user's first is a target."""
    rows, width = len(batch_of), 50
    items = torch.zeros(rows, width, dtype=torch.int64)
    segments = torch.full((rows, width), -1, dtype=torch.int32)
    positions = torch.arange(width).expand(rows, width)
    at, targets = [], []
    for row, events in enumerate(batch_of):
        n = len(events) - 1
        items[row, :n] = torch.from_numpy(events[:-1])
        segments[row, :n] = row
        at += [row * width + p for p in range(n)]
        targets += events[1:].tolist()
    return Batch(Packed(items, positions, segments), torch.tensor(at), torch.tensor(targets))
