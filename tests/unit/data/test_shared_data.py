"""The real Amazon Beauty data, where a copy lies beside the repository."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from tesserec.data.splits import Sequences, leave_one_out

BEAUTY = Path(__file__).resolve().parents[4] / "shared" / "data" / "beauty2014"

needs_beauty = pytest.mark.skipif(
    not BEAUTY.is_dir(), reason=f"the real Beauty data are not there: no folder {BEAUTY}"
)


@needs_beauty
def test_beauty_comes_in_whole_with_its_vectors(ingest: Any) -> None:
    encoder = {"name": "precomputed", "vectors": "text_embeddings_minilm.npy"}
    raw = ingest({"source": "tesserec", "path": str(BEAUTY), "max_bad_share": 0.0}, encoder)
    assert raw.counts["users"] == 22_363
    assert raw.counts["kept"] == {"interactions": 198_502, "items": 12_101}
    assert raw.counts["unused_columns"]["items"] == ["published_id"] and not raw.quarantine
    published = pq.read_table(BEAUTY / "interactions.parquet")
    for name in ("user_id", "item_id", "timestamp", "position"):
        assert raw.column(name) == published[name].to_pylist()
    vectors = np.load(raw.path / "vectors" / "vectors.npy", mmap_mode="r")
    assert vectors.shape == (12_101, 384)
    assert np.array_equal(vectors[7], np.load(BEAUTY / "text_embeddings_minilm.npy")[7])


@needs_beauty
def test_the_papers_split_of_beauty() -> None:
    table = pq.read_table(BEAUTY / "interactions.parquet")
    user = table["user_id"].to_numpy(zero_copy_only=False)
    ends = np.flatnonzero(user[1:] != user[:-1]) + 1
    items = [list(row) for row in np.split(table["item_id"].to_numpy(zero_copy_only=False), ends)]
    times = np.split(table["timestamp"].to_numpy(), ends)
    whole = Sequences([str(u) for u in user[np.r_[0, ends]]], items, times)
    parts = leave_one_out(whole)
    assert (parts.test_at >= 0).all()
    assert int((parts.train_end - 1).sum()) == 131_413  # the specification's training targets
