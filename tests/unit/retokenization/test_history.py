"""The history of runs: whole lines, also behind one that a crash tore."""

from __future__ import annotations

from pathlib import Path

from tesserec.retokenization.history import (
    history_file,
    read_history,
    remember,
    remember_outcome,
)


def test_lines_come_back_in_order(tmp_path: Path) -> None:
    assert read_history(tmp_path) == []
    lines = [{"cadence": "decide", "at": n} for n in range(3)]
    for line in lines:
        remember(tmp_path, line)
        remember(tmp_path, line)  # a run that was killed behind the line, and goes on
    assert read_history(tmp_path) == lines


def test_a_torn_line_is_passed_over_and_harms_no_other(tmp_path: Path) -> None:
    remember(tmp_path, {"cadence": "decide"})
    path = history_file(tmp_path)
    path.write_text(path.read_text() + '{"cadence": "main')
    assert read_history(tmp_path) == [{"cadence": "decide"}]
    remember(tmp_path, {"cadence": "encode"})
    assert read_history(tmp_path) == [{"cadence": "decide"}, {"cadence": "encode"}]


def test_bytes_that_are_no_text(tmp_path: Path) -> None:
    """A block of zeros, or half of a character, as a power cut leaves them."""
    remember(tmp_path, {"cadence": "decide", "fired": ["ä"]})
    path = history_file(tmp_path)
    path.write_bytes(path.read_bytes() + b"\x00\x00\xc3\n")
    assert read_history(tmp_path) == [{"cadence": "decide", "fired": ["ä"]}]


def test_outcomes(tmp_path: Path) -> None:
    change = {"cadence": "maintain", "release_id": "r2", "parent": "r1", "counts": {}}
    remember_outcome(tmp_path, change, None)
    remember_outcome(tmp_path, change, "too much churn")
    same = {"cadence": "maintain", "release_id": "r2", "parent": "r1"}
    assert read_history(tmp_path) == [
        {**same, "ok": True, "fired": []},
        {**same, "ok": False, "fired": ["too much churn"]},
    ]
