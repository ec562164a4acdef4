"""Item vectors, one row an item: item_id, row, finite, norm."""

from __future__ import annotations

from tesserec.validation.suites.start import Suite, between, expectations, not_null, start, true


def vectors(*, items: int, min_rows: int = 2) -> Suite:
    """As many as items, all finite, not all zero; one zero vector is an item without content."""
    gxe = expectations()

    return Suite(
        [
            *start(["item_id", "finite", "norm"], max(min_rows, items), max_rows=items),
            *not_null("item_id"),
            gxe.ExpectColumnValuesToBeUnique(column="item_id", severity="critical"),
            true("finite"),
            *not_null("norm"),
            between("norm", 0, 1e6),
            between("norm", 0, strict_low=True, severity="warning"),
            gxe.ExpectColumnMeanToBeBetween(
                column="norm", min_value=0, strict_min=True, severity="critical"
            ),
        ],
        ("item_id",),
    )
