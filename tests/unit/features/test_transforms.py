"""The Beam parts: workers that travel, and shards that may be written twice."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import apache_beam as beam
import cloudpickle
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from apache_beam.testing.util import assert_that

from tesserec.data.schemas import INTERACTIONS, ITEMS
from tesserec.features import tables, transforms

WORKERS: list[beam.DoFn] = [
    transforms.ReadRowGroup(ITEMS, numbered=True),
    transforms.Scatter("user_id", 4),
    transforms.Clean(),
    transforms.Histories((5, 9), 50, 1000),
    transforms.ItemFeatures(ITEMS, INTERACTIONS, 9, (1, 7), True),
    transforms.WriteShard("/tmp/x", 4),
]


def test_every_worker_is_listed() -> None:
    kinds = {v for v in vars(transforms).values() if isinstance(v, type)}
    assert {k for k in kinds if issubclass(k, beam.DoFn)} == {type(w) for w in WORKERS}


@pytest.mark.parametrize("worker", WORKERS, ids=lambda w: type(w).__name__)
@pytest.mark.parametrize("library", [pickle, cloudpickle])
def test_every_worker_travels(worker: beam.DoFn, library: Any) -> None:
    assert type(pickle.loads(library.dumps(worker))) is type(worker)


def test_clean_and_sequences_are_functions_of_collections() -> None:
    table = pa.table(
        {
            "user_id": ["b", "a", "a"],
            "item_id": ["x", "y", "z"],
            "timestamp": pa.array([1, 9, 2]),
            "position": pa.array([0, 1, 0]),
            "event_type": ["interaction"] * 3,
        },
        schema=INTERACTIONS,
    )

    def check(shards: list[tuple[int, pa.Table]]) -> None:
        found = {r["user_id"]: r["item_ids"] for _, t in shards for r in t.to_pylist()}
        assert found == {"a": ["z", "y"], "b": ["x"]}
        for bucket, shard in shards:
            assert set(tables.buckets_of(shard["user_id"], 3)) == {bucket}

    with beam.Pipeline("FnApiRunner") as pipeline:
        events: Any = pipeline | beam.Create([table.slice(0, 2), table.slice(2)])
        assert_that(transforms.sequences(transforms.clean(events, buckets=3)), check)


def test_a_shard_written_twice_is_one_file(tmp_path: Path) -> None:
    worker = transforms.WriteShard(str(tmp_path), 4)
    table = pa.table({"a": [1, 2]})
    first = list(worker.process((3, table)))
    before = Path(first[0]).read_bytes()
    assert list(worker.process((3, table))) == first
    assert [p.name for p in tmp_path.iterdir()] == ["part-00003-of-00004.parquet"]
    assert Path(first[0]).read_bytes() == before
    assert pq.read_table(first[0]).equals(table)


def test_the_histogram_adds_up() -> None:
    def part(times: list[int]) -> pa.Table:
        n = len(times)
        return pa.table({"timestamp": pa.array(times), "position": pa.array([0] * n)})

    def check(found: list[np.ndarray]) -> None:
        assert [list(a) for a in found] == [[2, 0, 1, 1]]

    with beam.Pipeline("FnApiRunner") as pipeline:
        events: Any = pipeline | beam.Create([part([0, 0]), part([2, 3])])
        assert_that(transforms.histogram(events, low=0, high=3, bins=4), check)


def test_ipc_bytes_hold_a_slice_alone() -> None:
    table = pa.table({"a": ["x" * 100] * 1000})
    assert len(transforms.to_bytes(table.slice(3, 1))) < 2_000
    assert transforms.of_bytes([transforms.to_bytes(table.slice(3, 1))]).num_rows == 1
    assert transforms.of_bytes([], table.schema).num_rows == 0
