from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tesserec.data.vectors import join_vectors
from tesserec.encoders.precomputed import Precomputed
from tesserec.errors import DataError, UsageError

X = np.arange(12, dtype=np.float16).reshape(4, 3)
IDS = ["a", "b", "c", "d"]


def items(*ids: str) -> pa.Table:
    return pa.table({"item_id": list(ids)})


def write(folder: Path, vectors: np.ndarray, ids: list[str]) -> Path:
    """The `vectors/` folder of a raw artefact."""
    folder.mkdir(parents=True)
    np.save(folder / "vectors.npy", vectors.astype(np.float32))
    pq.write_table(items(*ids), folder / "item_ids.parquet")
    return folder


def test_vectors_are_looked_up_by_id(tmp_path: Path) -> None:
    encoder = Precomputed.open(write(tmp_path / "vectors", X, IDS))
    encoder.fit(items(*IDS))
    out = encoder.encode(items("c", "a"))
    assert out.dtype == np.float32 and out.tolist() == [[6, 7, 8], [0, 1, 2]]
    assert encoder.encode(items()).shape == (0, 3)


def test_ingest_writes_what_the_encoder_reads(tmp_path: Path) -> None:
    np.save(tmp_path / "v.npy", X)
    ids = pa.array(["a", "d"])  # rows 1 and 2 of the source were refused
    join_vectors(tmp_path / "v.npy", ids, np.array([0, 3]), 4, tmp_path / "vectors")
    encoder = Precomputed.open(tmp_path / "vectors")
    assert encoder.encode(items("d", "a")).tolist() == [[9, 10, 11], [0, 1, 2]]


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
    write(tmp_path / "new", np.ones((1, 3)), ["new"])
    loaded.attach(tmp_path / "new")
    assert loaded.encode(items("new")).tolist() == [[1, 1, 1]]
    write(tmp_path / "wide", np.ones((1, 4)), ["new"])
    with pytest.raises(DataError, match="4 columns"):
        loaded.attach(tmp_path / "wide")


def test_other_vectors_have_another_hash() -> None:
    hashes = set()
    for x, ids in ((X, IDS), (X + 1, IDS), (X, ["a", "b", "c", "e"])):
        encoder = Precomputed(x, ids)
        encoder.fit(items(*ids))
        hashes.add(encoder.sha256)
    assert len(hashes) == 3
