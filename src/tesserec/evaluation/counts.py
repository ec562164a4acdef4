"""How often items occur in training."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def training_counts(sequences: Sequence[np.ndarray], items: int) -> np.ndarray:
    """Occurrences of each item row in training sequences, int64 [N]."""
    rows = np.concatenate([*sequences, np.empty(0, dtype=np.int64)])
    return np.bincount(rows, minlength=items)
