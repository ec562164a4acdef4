"""Artefacts as frames, and the metric gate's differences."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tesserec.artifacts import Artifact
from tesserec.validation import differences, frames


def test_a_semantic_id_becomes_a_string_key() -> None:
    codes = np.array([[12, 7, 33], [0, 255, 1], [12, 7, 33]], np.uint8)
    facts = frames.code_facts(codes)
    assert facts["sid_key"].tolist() == ["12-7-33", "0-255-1", "12-7-33"]
    assert facts["others"].tolist() == [1, 0, 1]
    assert facts["lowest"].tolist() == [7, 0, 7] and facts["highest"].tolist() == [33, 255, 33]


def test_use_of_a_code_book_counts_what_is_possible() -> None:
    codes = np.array([[0, 5], [1, 5], [2, 5], [3, 5]], np.uint8)
    facts = frames.codebook_facts(codes, 256)
    assert facts["used"] == [4, 1]
    assert facts["utilisation"].tolist() == [1.0, 0.25]  # 4 items can use 4 of 256 codes
    assert facts["entropy"] == pytest.approx([1.0, 0.0])


def test_order_inside_sequences() -> None:
    batch = pa.RecordBatch.from_pydict(
        {
            "user_id": ["a", "b", "c", "d"],
            "item_ids": [["x", "y"], ["x", "y"], ["x"], []],
            "timestamps": [[1, 1], [2, 1], [0], []],
        }
    )
    found = frames._sequence_facts(batch)
    assert found["ordered"].to_pylist() == [True, False, True, True]
    assert found["length"].to_pylist() == [2, 2, 1, 0]


def test_a_large_table_is_read_in_part_and_always_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for part in range(4):
        table = pa.table({"n": range(part * 100, part * 100 + 100)})
        pq.write_table(table, tmp_path / f"part-{part}.parquet")
    assert len(frames._table(tmp_path, None)) == 400
    monkeypatch.setattr(frames, "MAX_ROWS", 150)
    monkeypatch.setattr(frames, "BATCH", 50)
    read = frames._table(tmp_path, None)["n"].to_pylist()
    assert read == frames._table(tmp_path, None)["n"].to_pylist()
    assert 100 <= len(read) <= 150 and read[-1] > 200  # spread over the files


def test_no_item_of_a_large_catalogue_passes_for_unknown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = [f"i{n}" for n in range(400)]
    for name, table in {
        "items": pa.table({"item_id": ids}),
        "interactions": pa.table({"user_id": ["u"] * 4, "item_id": [*ids[1::150], "gone"]}),
    }.items():
        (tmp_path / name).mkdir()
        pq.write_table(table, tmp_path / name / "part-0.parquet")
    monkeypatch.setattr(frames, "MAX_ROWS", 150)
    monkeypatch.setattr(frames, "BATCH", 50)
    found = frames.raw_frames(Artifact(tmp_path, {}))
    assert len(found["items"]) <= 150
    assert found["interactions"]["known_item"].tolist() == [True, True, True, False]


def test_relative_differences_are_paired() -> None:
    rng = np.random.default_rng(0)
    ranks = rng.integers(0, 30, 2000)
    same = differences.against_promoted(ranks, ranks, resamples=200, seed=1).iloc[0]
    assert (same["relative"], same["low"], same["high"]) == (0, 0, 0)
    worse = np.where(rng.random(2000) < 0.1, 0, ranks)
    row = differences.against_promoted(worse, ranks, resamples=200, seed=1).iloc[0]
    assert row["low"] < row["relative"] < row["high"] < 0
    assert row["relative"] == pytest.approx(-0.1, abs=0.05)


def test_without_users_nothing_is_known() -> None:
    none = np.array([], dtype=np.int64)
    for compare in (differences.against_popularity, differences.against_promoted):
        row = compare(none, none, resamples=100, seed=1).iloc[0]
        assert row["users"] == 0 and row["low"] is None and row["high"] is None


def test_slices_judge_what_cannot_be_chance() -> None:
    """60 users all lost; 9 users all lost; 100 users of whom one more is lost than won."""
    theirs = np.array([1] * 69 + [1, 1, 0] + [0] * 97)
    ours = np.array([0] * 69 + [0, 0, 1] + [0] * 97)
    frequency = np.array([3] * 60 + [30] * 9 + [8] * 100)
    length = np.full(169, 7)
    found = differences.slices(ours, theirs, frequency, length, resamples=200, seed=1)
    by_bin = found.set_index(["by", "bin"])
    name = "target_training_frequency"
    assert by_bin["judged"].loc[name].to_dict() == {"1-5": -1.0, "6-10": 0.0, "21+": 0.0}
    assert by_bin["relative"].loc[name].to_dict() == {"1-5": -1.0, "6-10": -0.5, "21+": -1.0}
    assert by_bin.loc[("history_length", "5-9"), "users"] == 169
