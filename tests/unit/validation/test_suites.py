"""Each suite: good data pass, and each broken rule fails with its column, share and examples."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from tesserec.errors import UsageError
from tesserec.validation import gate
from tesserec.validation.suites import SUITES

ROWS, COLUMNS = "expect_table_row_count_to_be_between", "expect_table_columns_to_match_set"
NULL, UNIQUE = "expect_column_values_to_not_be_null", "expect_column_values_to_be_unique"
BETWEEN, SET = "expect_column_values_to_be_between", "expect_column_values_to_be_in_set"
COMPOUND, PAIR = (
    "expect_compound_columns_to_be_unique",
    "expect_column_pair_values_a_to_be_greater_than_b",
)
LENGTH = "expect_column_value_lengths_to_be_between"
N = 40  # rows of most tables (conftest.py)

# table, column, row (None: all rows), value, expectation that must fail as critical
BROKEN: list[tuple[str, str, int | None, Any, str]] = [
    ("interactions", "user_id", 3, None, NULL),
    ("interactions", "item_id", 3, "", LENGTH),
    ("interactions", "timestamp", 3, None, NULL),
    ("interactions", "timestamp", 3, 1_700_000_000_000, BETWEEN),  # milliseconds
    ("interactions", "timestamp", 3, -5, BETWEEN),
    ("interactions", "known_item", 3, False, SET),
    ("interactions", "position", 3, -1, BETWEEN),
    ("interactions", "user_id", None, "u1", "expect_column_unique_value_count_to_be_between"),
    ("items", "item_id", 3, "i4", UNIQUE),
    ("items", "item_id", 3, None, NULL),
    ("sequences", "user_id", 3, "u4", UNIQUE),
    ("sequences", "length", 3, 0, BETWEEN),
    ("sequences", "ordered", 3, False, SET),
    ("sequences", "aligned", 3, False, SET),
    ("user_history", "user_id", 3, "u4", COMPOUND),
    ("user_history", "length", 3, 51, BETWEEN),
    ("user_history", "seen", 3, 1001, BETWEEN),
    ("user_history", "before_cut", 3, False, SET),
    ("item_profile", "row", 3, 4, UNIQUE),
    ("item_profile", "item_id", 3, "i4", UNIQUE),
    ("item_stats", "item_id", 3, "i4", COMPOUND),
    ("item_stats", "count_1d", 3, -1, BETWEEN),
    ("item_stats", "count_7d", 3, 8, PAIR),  # above count_30d
    ("item_stats", "users_1d", 3, 2, PAIR),  # above count_1d
    ("item_stats", "first_seen", 3, 1_800_000_000, PAIR),
    ("vectors", "finite", 3, False, SET),
    ("vectors", "norm", 3, float("nan"), NULL),
    ("vectors", "norm", 3, float("inf"), BETWEEN),
    ("vectors", "norm", None, 0.0, "expect_column_mean_to_be_between"),
    ("vectors", "item_id", 3, "i4", UNIQUE),
    ("codes", "highest", 3, 8, BETWEEN),  # a code that no book has
    ("codes", "lowest", 3, -1, BETWEEN),
    ("codes", "digits", 3, 3, BETWEEN),
    ("codes", "sid_key", 3, "1-2-3", "expect_column_values_to_match_regex"),
    ("codes", "others", None, 5, BETWEEN),  # all items share their SID
    ("codebooks", "entropy", None, 0.0, BETWEEN),
    ("codebooks", "used", 1, 9, BETWEEN),
    ("quality", "error_training", 0, 1.2, BETWEEN),
    ("quality", "error_training", 0, None, NULL),
    ("against_popularity", "low", 0, 0.0, BETWEEN),  # must lie above 0, not at it
    ("against_popularity", "low", 0, None, NULL),
    ("against_popularity", "users", 0, 0, BETWEEN),
    ("against_promoted", "low", 0, -0.011, BETWEEN),
    ("slices", "judged", 0, -0.06, BETWEEN),
    ("ledger", "row", 3, N, BETWEEN),  # behind the end of the table
    ("ledger", "event", 3, "lost", SET),
    ("ledger", "changes_code", 0, False, SET),  # moved, and to nowhere
    ("ledger", "changes_code", 1, False, SET),  # encoded, and without a code
    ("ledger", "reason", 3, None, NULL),
    ("table", "item_id", 3, "i4", UNIQUE),
    ("table", "status", 3, "lost", SET),
    ("table", "has_code", 3, False, SET),  # one of forty
    ("table", "pending", N - 1, False, SET),  # in quarantine for ever
    ("refresh", "churn_items", 0, 0.051, BETWEEN),
    ("refresh", "churn_impressions", 0, 0.021, BETWEEN),
    ("refresh", "utilisation_change", 0, -0.021, BETWEEN),
    ("refresh", "entropy_change", 0, -0.021, BETWEEN),
    ("refresh", "collision_change", 0, 0.006, BETWEEN),
    ("refresh", "bucket_ratio", 0, 2.1, BETWEEN),
    ("refresh", "held_out_ratio", 0, 1.021, BETWEEN),
    ("refresh", "churn_items", 0, None, NULL),
]


@pytest.fixture(autouse=True)
def no_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages take most of a gate's time; test_gate.py looks at them."""
    monkeypatch.setattr(gate, "_actions", list)


@pytest.mark.parametrize("table", SUITES)
def test_good_data_pass(check: Any, tables: dict[str, pd.DataFrame], table: str) -> None:
    verdict = check(table, tables[table])
    assert verdict.passed and verdict.failed_expectations == []
    assert verdict.rows == {table: len(tables[table])}


@pytest.mark.parametrize("table", SUITES)
def test_an_empty_frame_fails(check: Any, tables: dict[str, pd.DataFrame], table: str) -> None:
    verdict = check(table, tables[table].iloc[:0])
    assert not verdict.passed
    assert verdict.failed_expectations[0]["expectation"] == ROWS
    assert "found 0" in verdict.failed_expectations[0]["message"]


@pytest.mark.parametrize("table", SUITES)
def test_a_missing_column_fails_with_its_name(
    check: Any, tables: dict[str, pd.DataFrame], table: str
) -> None:
    column = str(tables[table].columns[-1])
    verdict = check(table, tables[table].drop(columns=[column]))
    assert not verdict.passed
    first = verdict.failed_expectations[0]
    assert first["expectation"] == COLUMNS and first["examples"] == [column]
    for other in verdict.failed_expectations[1:]:  # what could not be computed says why
        assert f'The column "{column}" in BatchData does not exist' in other["message"]


@pytest.mark.parametrize(
    ("table", "column", "row", "value", "expectation"),
    BROKEN,
    ids=[f"{t}.{c}={v}" for t, c, _, v, _ in BROKEN],
)
def test_each_broken_rule_fails(
    check: Any,
    tables: dict[str, pd.DataFrame],
    table: str,
    column: str,
    row: int | None,
    value: Any,
    expectation: str,
) -> None:
    frame = tables[table]
    cells = frame[column].astype(object)
    if row is None:
        cells[:] = value
    else:
        cells[row] = value
    numeric = isinstance(value, int | float) and not isinstance(value, bool)
    frame[column] = cells.astype(float) if numeric else cells
    verdict = check(table, frame)
    assert not verdict.passed
    failed = [f for f in verdict.criticals if f["expectation"] == expectation]
    assert failed, verdict.failed_expectations
    assert any(column in f["column"] for f in failed)
    if failed[0]["bad_share"] is not None:
        assert 0 < failed[0]["bad_share"] <= 1 and 1 <= len(failed[0]["examples"]) <= 3


def test_data_without_times_pass_and_one_time_missing_does_not(
    check: Any, tables: dict[str, pd.DataFrame]
) -> None:
    frame = tables["interactions"]
    frame["timestamp"] = None
    assert check("interactions", frame, has_times=False).passed


def test_two_events_at_one_place_fail(check: Any, tables: dict[str, pd.DataFrame]) -> None:
    frame = tables["interactions"]
    frame.loc[1, ["timestamp", "position"]] = frame.loc[0, ["timestamp", "position"]]
    (failed,) = check("interactions", frame).criticals
    assert failed["expectation"] == COMPOUND and failed["bad_share"] == 2 / 40
    assert failed["examples"] == [{"user_id": "u0", "timestamp": 1_700_000_000, "position": 0}]


def test_what_is_only_strange_warns(check: Any, tables: dict[str, pd.DataFrame]) -> None:
    items = tables["items"]
    items.loc[:9, "title"] = None
    verdict = check("items", items)
    assert verdict.passed
    (failed,) = verdict.failed_expectations
    assert (failed["severity"], failed["column"], failed["bad_share"]) == ("warning", "title", 0.25)


def test_a_small_bucket_is_no_crowd(check: Any, tables: dict[str, pd.DataFrame]) -> None:
    """From one item to eight of them is no matter."""
    frame = tables["refresh"].assign(bucket_ratio=8.0, largest_bucket=8.0)
    assert check("refresh", frame).passed


def test_a_codebook_without_a_reference_passes(check: Any, tables: dict[str, pd.DataFrame]) -> None:
    frame = tables["refresh"].assign(held_out_ratio=float("nan"))
    assert check("refresh", frame).passed


def test_a_small_slice_warns_only(check: Any, tables: dict[str, pd.DataFrame]) -> None:
    frame = tables["slices"]
    frame.loc[1, "relative"] = -0.5  # 9 users: not judged
    verdict = check("slices", frame)
    assert verdict.passed
    assert [f["severity"] for f in verdict.failed_expectations] == ["warning"]


@pytest.mark.parametrize("cell", [np.array([1, 2]), [1, 2], (1, 2)], ids=["array", "list", "tuple"])
def test_columns_of_arrays_are_refused(
    check: Any, tables: dict[str, pd.DataFrame], cell: Any
) -> None:
    """Great Expectations calls any column of arrays unique; a SID must come as a string key."""
    frame = tables["codes"]
    frame["sid_key"] = [cell] * len(frame)  # all alike
    with pytest.raises(UsageError, match="arrays in column 'sid_key'; pass a string key"):
        check("codes", frame)


def test_all_items_with_one_sid_fail(check: Any, tables: dict[str, pd.DataFrame]) -> None:
    from tesserec.validation.frames import code_facts

    frame = tables["codes"].assign(**code_facts(np.ones((40, 4), np.uint8)))
    verdict = check("codes", frame)
    assert {f["column"] for f in verdict.failed_expectations} == {"others", "sid_key"}
    assert verdict.criticals[0]["examples"] == [
        {"item_id": f"i{i}", "others": 39} for i in range(3)
    ]
