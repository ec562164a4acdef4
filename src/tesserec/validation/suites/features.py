"""What the feature jobs wrote, one suite a table; lists come as lengths and flags."""

from __future__ import annotations

from typing import Any

from tesserec.validation.suites.start import Suite, between, expectations, not_null, start, true


def sequences(*, min_rows: int = 1) -> Suite:
    """One ordered sequence a user. Columns: user_id, length, aligned, ordered."""
    gxe = expectations()

    return Suite(
        [
            *start(["user_id", "length", "aligned", "ordered"], min_rows),
            *not_null("user_id", "length"),
            gxe.ExpectColumnValuesToBeUnique(column="user_id", severity="critical"),
            between("length", 1),
            true("aligned"),
            true("ordered"),
        ],
        ("user_id",),
    )


def user_history(*, min_rows: int = 1, history_length: int = 50, seen_limit: int = 1000) -> Suite:
    """One row a user and cut: user_id, event_timestamp, length, aligned, seen, before_cut."""
    gxe = expectations()

    columns = ["user_id", "event_timestamp", "length", "aligned", "seen", "before_cut"]
    return Suite(
        [
            *start(columns, min_rows),
            *not_null("user_id", "event_timestamp"),
            gxe.ExpectCompoundColumnsToBeUnique(
                column_list=["user_id", "event_timestamp"], severity="critical"
            ),
            between("length", 1, history_length),
            between("seen", 1, seen_limit),
            true("aligned"),
            true("before_cut"),  # an event at or after the cut would be a look into the future
        ],
        ("user_id", "event_timestamp"),
    )


def item_profile(*, min_rows: int = 1) -> Suite:
    """One row an item, numbered as in the raw items. Columns: item_id, row, listed_at."""
    gxe = expectations()

    rules: list[Any] = [
        *start(["item_id", "row", "listed_at"], min_rows),
        *not_null("item_id", "row"),
        gxe.ExpectColumnValuesToBeUnique(column="item_id", severity="critical"),
        gxe.ExpectColumnValuesToBeUnique(column="row", severity="critical"),
        between("row", 0),
    ]
    return Suite(rules, ("item_id",))


def item_stats(*, min_rows: int = 1, windows: tuple[int, ...] = (1, 7, 30)) -> Suite:
    """Counts in windows: none negative, longer windows hold no less, users never above events."""
    gxe = expectations()

    counts = [f"count_{days}d" for days in sorted(windows)]
    users = [f"users_{days}d" for days in sorted(windows)]
    rules: list[Any] = [
        *start(
            ["item_id", "event_timestamp", *counts, *users, "count_all", "first_seen", "last_seen"],
            min_rows,
        ),
        *not_null("item_id", "event_timestamp", "count_all"),
        gxe.ExpectCompoundColumnsToBeUnique(
            column_list=["item_id", "event_timestamp"], severity="critical"
        ),
        *[between(c, 0) for c in [*counts, *users, "count_all"]],
    ]
    longer = [*counts, "count_all"]
    ordered = [
        *zip(longer[1:], longer[:-1], strict=True),
        *zip(counts, users, strict=True),
        ("last_seen", "first_seen"),
    ]
    rules += [
        gxe.ExpectColumnPairValuesAToBeGreaterThanB(
            column_A=a,
            column_B=b,
            or_equal=True,
            ignore_row_if="either_value_is_missing",
            severity="critical",
        )
        for a, b in ordered
    ]
    return Suite(rules, ("item_id", "event_timestamp"))
