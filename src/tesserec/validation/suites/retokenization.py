"""May a code table that was extended, maintained or rebuilt be used? (docs/retokenization.md)"""

from __future__ import annotations

from tesserec.validation.suites.start import Suite, between, expectations, not_null, start, where

EVENTS = (
    "encoded", "quarantined", "activated", "edited", "moved", "retired", "relisted", "purged"
)  # fmt: skip
STATUSES = ("active", "quarantined", "retired", "purged")


def ledger(*, rows: int, entries: int) -> Suite:
    """One row an entry: item_id, row, event, reason, changes_code, at.

    `rows` are those of the code table; an `encoded` or `moved` entry has a new code.
    """
    gxe = expectations()
    columns = ["item_id", "row", "event", "reason", "changes_code", "at"]
    return Suite(
        [
            *start(columns, entries, max_rows=entries),
            *not_null(*columns),
            between("row", 0, rows - 1),
            gxe.ExpectColumnValuesToBeInSet(
                column="event", value_set=list(EVENTS), severity="critical"
            ),
            gxe.ExpectColumnValuesToBeInSet(
                column="changes_code",
                value_set=[True],
                row_condition=where("event").is_in(["moved", "encoded"]),
                severity="critical",
            ),
        ],
        ("item_id", "event"),
    )


def table(*, items: int) -> Suite:
    """One row an item: item_id, status, has_code, pending (a code waits for it)."""
    gxe = expectations()
    columns = ["item_id", "status", "has_code", "pending"]
    return Suite(
        [
            *start(columns, items, max_rows=items),
            *not_null(*columns),
            gxe.ExpectColumnValuesToBeUnique(column="item_id", severity="critical"),
            gxe.ExpectColumnValuesToBeInSet(
                column="status", value_set=list(STATUSES), severity="critical"
            ),
            # what may be shown and has no code can't be recommended: at most one in a thousand
            gxe.ExpectColumnValuesToBeInSet(
                column="has_code", value_set=[True], mostly=0.999, severity="critical"
            ),
            gxe.ExpectColumnValuesToBeInSet(
                column="pending",
                value_set=[True],
                row_condition=where("status") == "quarantined",
                severity="critical",
            ),
        ],
        ("item_id",),
    )


def refresh(*, items: float, impressions: float, crowd: int = 8) -> Suite:
    """One row: churn_items, churn_impressions, and the table's health beside the parent's.

    `items` and `impressions` are the budget. A bucket of up to `crowd` items is no crowd.
    """
    columns = ["churn_items", "churn_impressions", "utilisation_change", "entropy_change"]
    columns += ["collision_change", "bucket_ratio", "largest_bucket", "held_out_ratio"]
    gxe = expectations()
    return Suite(
        [
            *start(columns, 1, max_rows=1),
            *not_null(*columns[:-1]),
            between("churn_items", 0, items + 1e-9),
            between("churn_impressions", 0, impressions + 1e-9),
            between("utilisation_change", -0.02),
            between("entropy_change", -0.02),
            between("collision_change", None, 0.005),
            gxe.ExpectColumnValuesToBeBetween(
                column="bucket_ratio",
                max_value=2,
                row_condition=where("largest_bucket") > crowd,
                severity="critical",
            ),
            between("held_out_ratio", 0, 1.02),
        ]
    )
