from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tesserec.errors import ArtifactError, DataError
from tesserec.tokenizers import CodeTable


def codes(*rows: list[int]) -> np.ndarray:
    return np.array(rows, np.uint8)


@pytest.fixture
def table() -> CodeTable:
    return CodeTable(["a", "b", "c"], codes([1, 2], [3, 4], [1, 2]), np.array([True, False, True]))


def test_look_ups_both_ways(table: CodeTable) -> None:
    assert table.codes_of(["c", "b"]).tolist() == [[1, 2], [3, 4]]
    assert table.items_of(codes([1, 2], [9, 9], [3, 4])) == [["a", "c"], [], ["b"]]
    assert table.items_of(np.array([[257, 2]], np.int64)) == [[]]  # does not wrap round to 1
    assert table.codes_of([]).shape == (0, 2)


def test_append_keeps_rows(table: CodeTable) -> None:
    before = table.codes.copy()
    table.items_of(before)  # the index is there and must follow
    assert table.append(["d"], codes([1, 2])).tolist() == [3]
    assert np.array_equal(table.codes[:3], before)
    assert table.items_of(codes([1, 2])) == [["a", "c", "d"]]
    assert table.trained.tolist() == [True, False, True, False]


def test_codes_cannot_be_written(table: CodeTable) -> None:
    with pytest.raises(ValueError, match="read-only"):
        table.codes[0, 0] = 9


def test_a_refused_append_changes_nothing(table: CodeTable) -> None:
    with pytest.raises(DataError, match="'b' has a code already"):
        table.append(["x", "b"], codes([5, 5], [6, 6]))
    with pytest.raises(DataError, match="'x' has a code already"):
        table.append(["x", "x"], codes([5, 5], [6, 6]))
    with pytest.raises(DataError, match="release's tokenizer"):
        table.append(["x"], codes([5, 5, 5]))
    with pytest.raises(DataError, match="release's tokenizer"):
        table.append(["x"], np.array([[5, 5]], np.uint16))
    with pytest.raises(DataError, match="2 rows for 1"):
        table.append(["x"], codes([5, 5]), np.array([True, True]))
    assert len(table) == 3 and table.item_ids == ["a", "b", "c"]
    with pytest.raises(DataError, match="'x'"):
        table.codes_of(["a", "x"])
    with pytest.raises(DataError, match="2 digits"):
        table.items_of(codes([1, 2, 3]))
    with pytest.raises(DataError, match="int64"):
        CodeTable(["a"], np.array([[1]]))


@given(
    st.lists(st.lists(st.integers(0, 255), min_size=3, max_size=3), max_size=30),
    st.integers(0, 30),
)
@settings(deadline=None)
def test_save_and_load_after_any_append(
    tmp_path_factory: pytest.TempPathFactory, rows: list[list[int]], at: int
) -> None:
    folder = tmp_path_factory.mktemp("table")
    array = np.array(rows, np.uint8).reshape(len(rows), 3)
    ids = [f"i{n}" for n in range(len(rows))]
    table = CodeTable(ids[:at], array[:at], np.ones(len(ids[:at]), bool))
    table.append(ids[at:], array[at:])
    table.save(folder)
    loaded = CodeTable.load(folder)
    assert loaded.item_ids == ids
    assert np.array_equal(loaded.codes, array)
    assert loaded.trained.tolist() == [n < at for n in range(len(ids))]
    for item_id, own in zip(ids, loaded.items_of(array), strict=True):
        assert item_id in own


def test_broken_tables_are_refused(table: CodeTable, tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"no codes\.safetensors"):
        CodeTable.load(tmp_path)
    table.save(tmp_path / "one")
    table.append(["d"], codes([0, 0]))
    table.save(tmp_path / "two")
    (tmp_path / "one" / "item_ids.parquet").write_bytes(
        (tmp_path / "two" / "item_ids.parquet").read_bytes()
    )
    with pytest.raises(ArtifactError, match="3 codes for 4 items"):
        CodeTable.load(tmp_path / "one")
