from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tesserec.encoders.precomputed import Precomputed, read_vectors, write_vectors
from tesserec.errors import DataError, TesserecError, UsageError

X = np.arange(12, dtype=np.float16).reshape(4, 3)
IDS = ["a", "b", "c", "d"]


def items(*ids: str) -> pa.Table:
    return pa.table({"item_id": list(ids)})


def npy(folder: Path, x: np.ndarray = X) -> Path:
    np.save(folder / "v.npy", x)
    return folder / "v.npy"


def parquet(folder: Path, ids: list[str | None], rows: list[list[float] | None]) -> Path:
    table = pa.table({"item_id": ids, "vector": pa.array(rows, pa.list_(pa.float64()))})
    pq.write_table(table, folder / "v.parquet")
    return folder / "v.parquet"


def test_npy_rows_follow_the_items_file(tmp_path: Path) -> None:
    vectors, ids = read_vectors(npy(tmp_path), IDS)
    write_vectors(tmp_path / "vectors", vectors, ids)
    encoder = Precomputed.open(tmp_path / "vectors")
    encoder.fit(items(*IDS))
    out = encoder.encode(items("c", "a"))
    assert out.dtype == np.float32 and out.tolist() == [[6, 7, 8], [0, 1, 2]]
    assert encoder.encode(items()).shape == (0, 3)


def test_npy_of_a_file_with_a_double_id_keeps_the_first_row(tmp_path: Path) -> None:
    vectors, ids = read_vectors(npy(tmp_path), ["a", "b", "a", "d"])
    assert ids == ["a", "b", "d"] and vectors[2].tolist() == [9, 10, 11]


def test_parquet_is_keyed_by_id(tmp_path: Path) -> None:
    vectors, ids = read_vectors(parquet(tmp_path, ["b", "a"], [[1, 2], [3, 4]]), IDS)
    assert Precomputed(vectors, ids).encode(items("a", "b")).tolist() == [[3, 4], [1, 2]]


def test_an_item_without_a_vector_is_named(tmp_path: Path) -> None:
    encoder = Precomputed(X, IDS)
    with pytest.raises(DataError, match=r"2 of 3 items have no vector.*'x'.*encoder\.vectors"):
        encoder.encode(items("a", "x", "y"))


def test_save_is_a_reference_and_attach_gives_it_vectors(tmp_path: Path) -> None:
    encoder = Precomputed(X, IDS)
    encoder.fit(items(*IDS))
    encoder.save(tmp_path / "encoder")
    loaded = Precomputed.load(tmp_path / "encoder")
    assert loaded.sha256 == encoder.sha256 and loaded.dim == 3
    with pytest.raises(UsageError, match="attach"):
        loaded.encode(items("a"))
    write_vectors(tmp_path / "new", np.ones((1, 3)), ["new"])
    loaded.attach(tmp_path / "new")
    assert loaded.encode(items("new")).tolist() == [[1, 1, 1]]
    write_vectors(tmp_path / "wide", np.ones((1, 4)), ["new"])
    with pytest.raises(DataError, match="4 columns"):
        loaded.attach(tmp_path / "wide")


def test_other_vectors_have_another_hash() -> None:
    hashes = set()
    for x, ids in ((X, IDS), (X + 1, IDS), (X, ["a", "b", "c", "e"])):
        encoder = Precomputed(x, ids)
        encoder.fit(items(*ids))
        hashes.add(encoder.sha256)
    assert len(hashes) == 3


def test_bad_files_are_refused(tmp_path: Path) -> None:
    def refused(path: Path, match: str, kind: type[TesserecError] = DataError) -> None:
        with pytest.raises(kind, match=match):
            read_vectors(path, IDS)

    refused(tmp_path / "none.npy", "no file", UsageError)
    (tmp_path / "v.csv").write_text("1")
    refused(tmp_path / "v.csv", "npy or a .parquet", UsageError)
    (tmp_path / "text.npy").write_text("not numpy")
    refused(tmp_path / "text.npy", "not a .npy")
    refused(npy(tmp_path, X[:3]), "3 rows, the items file has 4")
    refused(npy(tmp_path, X[0]), "takes numbers")
    refused(npy(tmp_path, np.array([["a"]])), "takes numbers")
    bad = X.copy()
    bad[2, 0] = np.nan
    refused(npy(tmp_path, bad), "1 vectors hold NaN or infinity.*'c'")
    refused(parquet(tmp_path, ["a", "a"], [[1], [2]]), "'a' is null or occurs twice")
    refused(parquet(tmp_path, ["a", None], [[1], [2]]), "None is null")
    refused(parquet(tmp_path, ["a", "b"], [[1], [2, 3]]), "'b' is missing or has another length")
    refused(parquet(tmp_path, ["a", "b"], [None, [2]]), "'a' is missing or has another length")
    refused(parquet(tmp_path, ["a"], [[float("inf")]]), "'a'")
    pq.write_table(items("a"), tmp_path / "v.parquet")
    refused(tmp_path / "v.parquet", "no column 'vector'")
    (tmp_path / "v.parquet").write_text("no")
    refused(tmp_path / "v.parquet", "not a Parquet file")


def test_a_pickle_is_never_read(tmp_path: Path) -> None:
    np.save(tmp_path / "v.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(DataError, match=r"not a \.npy"):
        read_vectors(tmp_path / "v.npy", IDS)
