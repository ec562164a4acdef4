"""The Beam job on FnApiRunner against plain Python, and what it refuses."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from tesserec.artifacts import sha256_of
from tesserec.config import FeatureConfig, SplitConfig
from tesserec.errors import DataError, UsageError
from tesserec.features import job
from tests.fakes import feature_oracle as oracle
from tests.fakes.raw import Event, catalogue, random_events, write_raw

FEATURES = FeatureConfig(history_length=5, seen_limit=7)
KEEP = SplitConfig()
Run = Callable[..., tuple[Path, dict[str, Any]]]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Run the job on events; returns its folder and summary."""

    def call(
        events: list[Event], *, split: SplitConfig = KEEP, name: str = "a", **layout: int
    ) -> tuple[Path, dict[str, Any]]:
        write_raw(tmp_path / name / "raw", events, catalogue(40), **layout)
        out = tmp_path / name / "out"
        out.mkdir()
        return out, job.run_job(tmp_path / name / "raw", out, FEATURES, split)

    return call


def rows(folder: Path, name: str) -> list[dict[str, Any]]:
    return pq.read_table(folder / name).to_pylist()


@pytest.mark.parametrize("times", [True, False])
def test_every_table_equals_plain_python(run: Run, times: bool) -> None:
    events = random_events(60, 40, 20, times=times)
    out, summary = run(events)
    users = oracle.ordered(events)
    watermark = max(t for seq in users.values() for _, t in seq) + 1
    assert summary["watermark"] == watermark and summary["has_times"] is times
    assert summary["cuts"] == {"train": None, "watermark": watermark}

    found = {r["user_id"]: r for r in rows(out, "sequences")}
    assert {
        u: list(zip(r["item_ids"], r["timestamps"], strict=True)) for u, r in found.items()
    } == (users)
    for row in rows(out, "user_history"):
        expected = oracle.history(users[row["user_id"]], watermark, 5, 7)
        assert (row["item_ids"], row["timestamps"], row["seen_items"]) == expected
        assert row["event_timestamp"].timestamp() == watermark
    assert len(rows(out, "user_history")) == summary["users"] == len(users)
    over = sum(len({i for i, _ in seq}) > 7 for seq in users.values())
    assert summary["users_over_seen_limit"] == over > 0

    ids = [item["item_id"] for item in catalogue(40)]
    expected_stats = oracle.stats(events, ids, watermark, (1, 7, 30), times)
    for row in rows(out, "item_stats"):
        assert {k: row[k] for k in expected_stats[row["item_id"]]} == pytest.approx(
            expected_stats.pop(row["item_id"])
        )
    assert not expected_stats


def test_the_profile_keeps_the_row_order_and_fills_the_listing_time(run: Run) -> None:
    events = random_events(60, 38, 20)
    out, summary = run(events)
    found = sorted(rows(out, "item_profile"), key=lambda r: r["row"])
    assert [r["row"] for r in found] == list(range(40))
    first: dict[str, int] = {}
    for _, item, stamp, _ in events:
        assert stamp is not None
        first[item] = min(stamp, first.get(item, stamp))
    for row, item in zip(found, catalogue(40), strict=True):
        assert row["item_id"] == item["item_id"] and row["title"] == item["title"]
        assert row["available"] is (item["available"] is not False)
        assert row["listed_at"] == (item["listed_at"] or first.get(item["item_id"]))
    assert summary["rows"]["item_profile"] == 40 == summary["items"]


def test_cleaned_interactions_are_numbered_anew_and_a_row_that_came_twice_counts_once(
    run: Run,
) -> None:
    events: list[Event] = [
        ("u", "i1", 100, 7),
        ("u", "i1", 100, 9),  # the same item again: another event
        ("u", "i2", 50, 30),
        ("u", "i2", 50, 30),  # the same row again: delivered twice
        ("v", "i1", 60, 0),
    ]
    out, summary = run(events)
    found = [
        (r["user_id"], r["item_id"], r["timestamp"], r["position"])
        for r in sorted(rows(out, "interactions"), key=lambda r: (r["user_id"], r["position"]))
    ]
    assert found == [
        ("u", "i2", 50, 0),
        ("u", "i1", 100, 1),
        ("u", "i1", 100, 2),
        ("v", "i1", 60, 0),
    ]
    assert summary["interactions"] == 4 and summary["rows_repeated"] == 1


def test_the_time_split_cuts_where_the_share_says(run: Run) -> None:
    events = random_events(80, 40, 20)
    out, summary = run(events, split=SplitConfig(protocol="time", train_share=0.8))
    cut, watermark = summary["cuts"]["train"], summary["cuts"]["watermark"]
    stamps = sorted(t for _, _, t, _ in set(events) if t is not None)
    assert sum(t < cut for t in stamps) >= 0.8 * len(stamps)
    assert sum(t < cut - 86_400 for t in stamps) < 0.8 * len(stamps)  # data lie on whole days
    users = oracle.ordered(events)
    found = {
        (r["user_id"], int(r["event_timestamp"].timestamp())): (
            r["item_ids"],
            r["timestamps"],
            r["seen_items"],
        )
        for r in rows(out, "user_history")
    }
    expected = {
        (user, at): oracle.history(seq, at, 5, 7)
        for user, seq in users.items()
        for at in (cut, watermark)
        if any(t < at for _, t in seq)
    }
    assert found == expected


def test_the_files_depend_on_the_rows_alone(run: Run) -> None:
    """Another order of rows, other files and row groups: the same bytes."""
    events = random_events(60, 40, 20)
    one, _ = run(events, name="one")
    two, _ = run(events[::-1], name="two", parts=3, group=31)

    def hashes(folder: Path) -> dict[str, str]:
        return {str(p.relative_to(folder)): sha256_of(p) for p in folder.rglob("*") if p.is_file()}

    assert hashes(one) == hashes(two)
    assert len(hashes(one)) > 5


def test_items_without_a_profile_are_counted(run: Run) -> None:
    _, summary = run([("u", "i1", 5, 0), ("u", "nowhere", 6, 1)])
    assert summary["items_unknown"] == 1


def test_refusals(run: Run, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="at least one"):
        run([], name="none")
    with pytest.raises(DataError, match="1 of 2 interactions"):
        run([("u", "i1", 5, 0), ("u", "i2", None, 1)], name="mixed")
    time = SplitConfig(protocol="time")
    with pytest.raises(UsageError, match="leave_one_out"):
        run([("u", "i1", None, 0)], name="timeless", split=time)
    with pytest.raises(DataError, match="no event after the cut"):
        run([("u", "i1", 5, 0), ("u", "i2", 5, 1)], name="tied", split=time)
    write_raw(tmp_path / "raw", [("u", "i1", 5, 0)], catalogue(3))
    with pytest.raises(UsageError, match="NoSuchRunner"):
        job.run_job(tmp_path / "raw", tmp_path, FeatureConfig(runner="NoSuchRunner"), KEEP)
