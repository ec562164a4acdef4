"""Raw items, as ingested."""

from __future__ import annotations

from tesserec.data.schemas import ITEMS
from tesserec.validation.suites.start import Suite, between, expectations, not_null, start


def items(*, min_rows: int = 2) -> Suite:
    """One row an item; a title for most of them; prices that can be prices.

    The frame has ITEMS' columns, with `categories` joined to one string.
    """
    gxe = expectations()

    return Suite(
        [
            *start(ITEMS.names, min_rows),
            *not_null("item_id"),
            gxe.ExpectColumnValueLengthsToBeBetween(
                column="item_id", min_value=1, severity="critical"
            ),
            gxe.ExpectColumnValuesToBeUnique(column="item_id", severity="critical"),
            # Without text an encoder has nothing to read, but ids alone are allowed input.
            gxe.ExpectColumnValuesToNotBeNull(column="title", mostly=0.9, severity="warning"),
            between("price", 0, 1e9, severity="warning", mostly=0.99),
            between("listed_at", 0, severity="warning"),
        ],
        ("item_id",),
    )
