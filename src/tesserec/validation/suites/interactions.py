"""Raw interactions, as ingested."""

from __future__ import annotations

from tesserec.data.schemas import INTERACTIONS
from tesserec.validation.suites.start import Suite, between, expectations, not_null, start, true

LATEST = 4_102_444_800  # the year 2100: beyond it a time is in another unit


def interactions(*, min_rows: int = 100, has_times: bool = True) -> Suite:
    """Ids there, items known, one row a place in a user's order, times all there or all null.

    The frame has INTERACTIONS' columns and `known_item` (the item is in the items table).
    """
    gxe = expectations()

    rules = [
        *start([*INTERACTIONS.names, "known_item"], min_rows),
        *not_null("user_id", "item_id", "position", "event_type"),
        gxe.ExpectColumnValueLengthsToBeBetween(column="user_id", min_value=1, severity="critical"),
        gxe.ExpectColumnValueLengthsToBeBetween(column="item_id", min_value=1, severity="critical"),
        # The order of a user's events is (timestamp, position); two alike would have none.
        gxe.ExpectCompoundColumnsToBeUnique(
            column_list=["user_id", *(["timestamp"] if has_times else []), "position"],
            severity="critical",
        ),
        true("known_item"),
        between("position", 0),
        gxe.ExpectColumnUniqueValueCountToBeBetween(
            column="user_id", min_value=2, severity="critical"
        ),
        gxe.ExpectColumnUniqueValueCountToBeBetween(
            column="item_id", min_value=2, severity="critical"
        ),
    ]
    if has_times:
        rules += [*not_null("timestamp"), between("timestamp", 0, LATEST)]
    return Suite(rules, ("user_id", "position"))
