from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tesserec.artifacts import Artifact, build
from tesserec.config import SplitConfig
from tesserec.data.schemas import SEQUENCES
from tesserec.data.splits import (
    NONE,
    Sequences,
    leave_one_out,
    load_sequences,
    split,
    time_split,
)
from tesserec.errors import DataError, UsageError

many_times = st.lists(st.lists(st.integers(0, 30), min_size=1, max_size=8).map(sorted), max_size=8)


def sequences_of(times: list[list[int]]) -> Sequences:
    users = [f"u{i}" for i in range(len(times))]
    items = [[f"u{u}e{i}" for i in range(len(row))] for u, row in enumerate(times)]
    return Sequences(users, items, [np.array(row, np.int64) for row in times])


@given(many_times)
def test_leave_one_out_gives_each_event_one_role(times: list[list[int]]) -> None:
    whole = sequences_of(times)
    parts = leave_one_out(whole)
    for user, items in enumerate(whole.item_ids):
        valid, test = parts.valid(user), parts.test(user)
        if len(items) < 3:
            assert parts.train(user) == items and valid is None and test is None
            continue
        assert valid is not None and test is not None
        assert [*parts.train(user), valid[1], test[1]] == items
        assert valid[0] == items[:-2] and test[0] == items[:-1]


@given(many_times, st.integers(0, 30))
def test_a_time_split_never_trains_on_or_shows_the_future(times: list[list[int]], cut: int) -> None:
    whole = sequences_of(times)
    parts = time_split(whole, cut)
    late = sorted(t for row in times for t in row if t >= cut)
    middle = late[len(late) // 2] if late else cut
    for user, row in enumerate(times):
        end, valid, test = (int(a[user]) for a in (parts.train_end, parts.valid_at, parts.test_at))
        assert all(t < cut for t in row[:end]) and all(t >= cut for t in row[end:])
        if valid != NONE:
            assert valid == end > 0 and cut <= row[valid] < middle
        if test != NONE:
            assert test > 0 and row[test] >= middle and (row[test - 1] < middle)
        if test == NONE:
            assert row[-1] < middle or row[0] >= middle


def test_equal_times_keep_the_order_of_the_file() -> None:
    whole = sequences_of([[5, 5, 5, 5]])
    assert leave_one_out(whole).test(0) == (["u0e0", "u0e1", "u0e2"], "u0e3")


def test_the_protocol_is_chosen_by_the_configuration() -> None:
    whole = sequences_of([[1, 2, 3, 4], [1, 8, 9, 9]])
    assert split(whole, SplitConfig(), {}).test_at.tolist() == [3, 3]
    cut = {"cuts": {"train": 4, "watermark": 10}, "has_times": True}
    parts = split(whole, SplitConfig(protocol="time"), cut)
    assert parts.train_end.tolist() == [3, 1]
    assert parts.valid_at.tolist() == [3, 1] and parts.test_at.tolist() == [NONE, 2]


def test_a_time_split_without_times_is_refused_by_name() -> None:
    for summary in ({"cuts": {"train": None}}, {"cuts": {"train": 3}, "has_times": False}, {}):
        with pytest.raises(UsageError, match="leave_one_out"):
            split(sequences_of([[1, 2, 3]]), SplitConfig(protocol="time"), summary)


def features(workdir: Path, rows: list[tuple[str, list[str], list[int]]]) -> Artifact:
    def make(out: Path) -> None:
        (out / "sequences").mkdir()
        for part, some in enumerate((rows[::2], rows[1::2])):
            columns = list(map(list, zip(*some, strict=True))) if some else [[], [], []]
            arrays = [pa.array(c, f.type) for c, f in zip(columns, SEQUENCES, strict=True)]
            table = pa.Table.from_arrays(arrays, schema=SEQUENCES)
            pq.write_table(table, out / "sequences" / f"part-{part}.parquet")

    return build(workdir, "features", params={"n": len(rows)}, parents=(), version=1, make=make)[0]


def test_sequences_come_sorted_by_user_from_any_order_of_parts(tmp_path: Path) -> None:
    rows = [("b", ["x"], [3]), ("c", [], []), ("a", ["y", "z"], [1, 2])]
    read = load_sequences(features(tmp_path, rows))
    assert read.user_ids == ["a", "b", "c"] and read.events == 3
    assert read.item_ids == [["y", "z"], ["x"], []]
    assert [t.tolist() for t in read.timestamps] == [[1, 2], [3], []]
    assert leave_one_out(read).train_end.tolist() == [2, 1, 0]
    assert load_sequences(features(tmp_path, [])).user_ids == []
    with pytest.raises(DataError, match="'a' has two sequences"):
        load_sequences(features(tmp_path, [("a", ["x"], [1]), ("a", ["y"], [2])]))
