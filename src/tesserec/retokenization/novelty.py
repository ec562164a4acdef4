"""Which new items are too far from everything that the codebook knows."""

from __future__ import annotations

import numpy as np

from tesserec.errors import DataError

REJECTION = 0.01  # share of items without anything new about them that the gate turns away


def threshold(held_out_errors: np.ndarray, rejection: float = REJECTION) -> float:
    """The quantisation error that `rejection` of the held-out items [n] are above.

    A new item like them is rejected with that probability at most, counting the chance of the
    draw; with fewer than 1 / `rejection` of them their largest error is all that is known.

    Raises:
        DataError: no held-out items.
    """
    n = len(held_out_errors)
    if not n:
        raise DataError("novelty needs the errors of held-out items, and there are none")
    rank = int(np.ceil((n + 1) * (1 - rejection)))
    return float(np.sort(held_out_errors)[min(rank, n) - 1])


def accepted(errors: np.ndarray, limit: float) -> np.ndarray:
    """bool [N]: whose error is within the limit; one that is no number is not."""
    return errors <= limit
