"""May this model be promoted? Differences of metrics as frames, so that all gates look alike."""

from __future__ import annotations

from tesserec.validation.suites.start import Suite, between, not_null, start


def against_popularity(*, min_users: int = 1) -> Suite:
    """First release: NDCG@10 above popularity's, by the paired interval's lower bound.

    Columns: users, model, popularity, difference, low, high.
    """
    columns = ["users", "model", "popularity", "difference", "low", "high"]
    return Suite(
        [
            *start(columns, 1, max_rows=1),
            *not_null(*columns),
            between("users", max(1, min_users)),
            between("low", 0, strict_low=True),
        ]
    )


def against_promoted(*, max_loss: float, min_users: int = 1) -> Suite:
    """Later releases: Recall@10 relative to the promoted one's, at the interval's lower bound.

    Columns: users, model, promoted, relative, low, high.
    """
    columns = ["users", "model", "promoted", "relative", "low", "high"]
    return Suite(
        [
            *start(columns, 1, max_rows=1),
            *not_null(*columns),
            between("users", max(1, min_users)),
            between("low", -max_loss),
        ]
    )


def slices(*, max_slice_loss: float) -> Suite:
    """One row a slice: by, bin, users, model, promoted, relative, low, high, judged.

    `judged` is `relative`, or 0 where the loss may be chance (`differences.slices`).
    """
    columns = ["by", "bin", "users", "model", "promoted", "relative", "low", "high", "judged"]
    return Suite(
        [
            *start(columns, 1),
            *not_null(*columns),
            between("judged", -max_slice_loss),
            between("relative", -max_slice_loss, severity="warning"),
        ],
        ("by", "bin"),
    )
