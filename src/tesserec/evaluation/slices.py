"""Slices of users by how often their target item occurs in training."""

from __future__ import annotations

from typing import Any

import numpy as np

from tesserec.evaluation.metrics import means

# upper bounds; RPG's paper has 0-5, 6-10, ...; items never trained on are shown apart
FREQUENCY_BINS = (("0", 0), ("1-5", 5), ("6-10", 10), ("11-20", 20), ("21+", None))


def frequency_bin(frequency: np.ndarray) -> np.ndarray:
    """Index of FREQUENCY_BINS for each training frequency, int64 [U]."""
    bounds = [upper for _, upper in FREQUENCY_BINS if upper is not None]
    return np.searchsorted(bounds, frequency, side="left")


def by_frequency(
    kept: np.ndarray, dropped: np.ndarray, frequency: np.ndarray
) -> list[dict[str, Any]]:
    """Metrics in each bin: by, bin, users, kept, dropped."""
    where = frequency_bin(frequency)
    return [
        {
            "by": "target_training_frequency",
            "bin": name,
            "users": int((where == index).sum()),
            "kept": means(kept[where == index]),
            "dropped": means(dropped[where == index]),
        }
        for index, (name, _) in enumerate(FREQUENCY_BINS)
    ]
