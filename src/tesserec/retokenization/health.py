"""How well a code table and its tokenizer do, as numbers that two of them can be compared by."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from tesserec.tokenizers.quality import collisions, usage


@dataclass(frozen=True, kw_only=True)
class Health:
    """Of the items that are shown."""

    utilisation: float  # share of codes in use, mean over digits
    normalised_entropy: float  # corrected for few items, mean over digits
    collision_share: float  # (items - different tuples) / items
    largest_bucket: int  # items that share one tuple
    held_out_error: float | None  # mean squared, of the reference's held-out items


def health(codes: np.ndarray, codebook_size: int, held_out_errors: np.ndarray | None) -> Health:
    """Of the codes [n, m]."""
    digits = usage(codes, codebook_size)
    shared = collisions(codes)
    error = None if held_out_errors is None else round(float(held_out_errors.mean()), 6)
    return Health(
        utilisation=round(float(np.mean([d["utilisation"] for d in digits])), 6),
        normalised_entropy=round(float(np.mean([d["normalised_entropy"] for d in digits])), 6),
        collision_share=float(shared["share"]),
        largest_bucket=int(shared["largest_bucket"]),
        held_out_error=error,
    )


def compared(before: Health, after: Health) -> dict[str, Any]:
    """The row that the gate looks at: how `after` differs from `before`."""
    ratio = None
    if before.held_out_error and after.held_out_error is not None:
        ratio = after.held_out_error / before.held_out_error
    return {
        "utilisation_change": after.utilisation - before.utilisation,
        "entropy_change": after.normalised_entropy - before.normalised_entropy,
        "collision_change": after.collision_share - before.collision_share,
        "bucket_ratio": after.largest_bucket / max(before.largest_bucket, 1),
        "largest_bucket": after.largest_bucket,
        "held_out_ratio": ratio,
    }


def told(found: Health) -> dict[str, Any]:
    """As JSON takes it."""
    return asdict(found)
