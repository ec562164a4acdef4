"""Merging pushed events into a history, and the raw log."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tesserec.errors import UsageError
from tesserec.features.push import append_log, push_event
from tesserec.features.state import is_current, read_state
from tesserec.features.store import append, load_config, merge, open_store

EVENTS = st.lists(st.tuples(st.sampled_from("abcd"), st.integers(0, 9)), max_size=12)


def unzip(events: list[tuple[str, int]]) -> tuple[list[str], list[int]]:
    return [i for i, _ in events], [t for _, t in events]


def test_events_are_ordered_by_time_and_an_older_one_never_stands_last() -> None:
    assert merge(["a", "b"], [1, 5], ["c"], [3], length=50) == (["a", "c", "b"], [1, 3, 5])


def test_an_event_that_is_there_already_is_left_out_but_repeats_of_the_history_stay() -> None:
    assert merge(["a", "a"], [1, 1], ["a", "b"], [1, 2], length=50) == (["a", "a", "b"], [1, 1, 2])


def test_equal_times_keep_the_history_first() -> None:
    assert merge(["a"], [1], ["b"], [1], length=50)[0] == ["a", "b"]


def test_a_full_history_takes_nothing_older() -> None:
    assert merge(["a", "b"], [3, 4], ["x", "y"], [3, 5], length=2) == (["b", "y"], [4, 5])


@given(EVENTS, EVENTS, st.integers(1, 6))
def test_merging_again_changes_nothing(
    old: list[tuple[str, int]], new: list[tuple[str, int]], length: int
) -> None:
    history = sorted(dict.fromkeys(old), key=lambda e: e[1])[-length:]
    pushed = sorted(dict.fromkeys(new), key=lambda e: e[1])
    once = merge(*unzip(history), *unzip(pushed), length=length)
    assert merge(*once, *unzip(pushed), length=length) == once
    assert once[1] == sorted(once[1]) and len(once[0]) <= length
    if len(history) < length:  # the merge of everything, cut at the end
        everything = sorted({*history, *pushed}, key=lambda e: e[1])[-length:]
        assert sorted(t for _, t in everything) == once[1]


@given(st.lists(st.sampled_from("abcde")), st.lists(st.sampled_from("abcde")), st.integers(0, 9))
def test_without_times_what_a_run_has_read_counts_once(
    old: list[str], new: list[str], read: int
) -> None:
    """A history that ends with the first pushed events, and those events still in the store."""
    history = old + new[:read]
    items, times = append(
        history, list(range(len(history))), new, [10**9 + n for n in range(len(new))], length=50
    )
    assert len(items) == len(times) <= len(old) + len(new)
    if len(set(old + new)) == len(old + new):  # no repeats: exact
        assert items == old + new


def test_the_log_gets_whole_lines_even_after_a_torn_one(tmp_path: Path) -> None:
    path = tmp_path / "events" / "log.jsonl"
    append_log(path, "ü", "i", 5)
    with path.open("ab") as handle:
        handle.write(b'{"user_id": "to')  # a crash in the middle of a write
    append_log(path, "v", "j", 6)
    first, torn, last = path.read_text().splitlines()
    assert json.loads(first) == {"user_id": "ü", "item_id": "i", "timestamp": 5}
    assert torn == '{"user_id": "to' and json.loads(last)["user_id"] == "v"


@pytest.mark.parametrize(("user", "item", "time"), [("", "i", 1), ("u", "", 1), ("u", "i", -1)])
def test_a_bad_event_is_refused_before_anything_is_written(
    tmp_path: Path, user: str, item: str, time: int
) -> None:
    with pytest.raises(UsageError):
        push_event(tmp_path, user, item, time)
    with pytest.raises(UsageError, match="tomorrow"):
        push_event(tmp_path, "u", "i", 10**12)
    assert not list(tmp_path.iterdir())


def test_without_a_store_the_remedy_is_told(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="run the pipeline first"):
        open_store(tmp_path)
    assert read_state(tmp_path) == {} and not is_current("k", tmp_path)


def test_a_missing_address_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TESSEREC_REDIS", raising=False)
    (tmp_path / "feature_store.yaml").write_text("online_store: {path: '${TESSEREC_REDIS}'}")
    with pytest.raises(UsageError, match="TESSEREC_REDIS"):
        load_config(tmp_path)
