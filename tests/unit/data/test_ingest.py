from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tesserec.config import DataConfig
from tesserec.data import ingest as ingest_module
from tesserec.data import records
from tesserec.data.ingest import describe
from tesserec.data.schemas import INTERACTIONS, ITEMS, QUARANTINE
from tesserec.errors import DataError, UsageError

HEAD = "user_id,item_id,timestamp\n"


def test_the_generated_shop_comes_in_whole(ingest: Any, tmp_path: Path) -> None:
    small = {"source": "generated", "generated_users": 50, "generated_items": 80}
    raw = ingest(small)
    assert raw.counts["users"] == 50 and raw.items.num_rows == 80
    assert raw.interactions.schema.equals(INTERACTIONS) and raw.items.schema.equals(ITEMS)
    assert pq.read_schema(raw.path / "quarantine.parquet").equals(QUARANTINE)
    assert raw.items["title"].null_count == raw.items["categories"].null_count == 0
    again = ingest(small, workdir=tmp_path / "other")
    assert (again.key, again.content) == (raw.key, raw.content)
    assert ingest({**small, "generated_items": 81}).key != raw.key


def test_positions_run_on_through_interleaved_users_parts_and_batches(
    shop: Any, ingest: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(0)
    users = [f"u{i}" for i in rng.integers(0, 7, 500)]
    data = shop(HEAD + "".join(f"{u},a,5\n" for u in users))
    whole = ingest(data)
    expected, count = [], dict.fromkeys(users, 0)
    for user in users:
        expected.append(count[user])
        count[user] += 1
    assert whole.column("user_id") == users  # equal times keep file order
    assert whole.column("position") == expected
    monkeypatch.setattr("tesserec.data.sources.readers.BATCH_ROWS", 7)
    monkeypatch.setattr("tesserec.data.parts.PART_ROWS", 64)
    parts = ingest({**data, "list_separator": ";"})  # another key, so that it is made again
    assert parts.interactions.equals(whole.interactions)
    assert len(list((parts.path / "interactions").iterdir())) > 5


def test_given_positions_are_kept_and_the_log_goes_on_from_them(
    shop: Any, ingest: Any, log_events: Any, tmp_path: Path
) -> None:
    data = shop("user_id,item_id,position\nu,a,4\nu,b,2\nv,a,0\nv,b,x\n")
    log_events(tmp_path / "work", {"user_id": "u", "item_id": "c"})
    raw = ingest(data)
    assert raw.column("position") == [4, 2, 0, 5]
    assert raw.quarantine[0]["reason"] == "position is not a whole number of at least 0"


def test_log_events_follow_the_source_and_change_the_key(
    shop: Any, ingest: Any, log_events: Any, tmp_path: Path
) -> None:
    work, data = tmp_path / "work", shop()
    before = ingest(data)
    log_events(
        work,
        {"user_id": "u", "item_id": "c", "time": 3000, "note": "extra"},
        {"user_id": "new", "item_id": "a", "time": "1970-01-01T01:00:00Z"},
        {"user_id": "u", "item_id": "gone", "time": 3000},
        {"user_id": "u", "item_id": "a", "time": None},
        '{"user_id": "u", "item_id": "b", "ti',
    )
    after = ingest(data)
    assert after.key != before.key
    rows = after.interactions.slice(3).select(["user_id", "item_id", "timestamp", "position"])
    assert [tuple(row.values()) for row in rows.to_pylist()] == [
        ("u", "c", 3000, 2),
        ("new", "a", 3600, 0),
    ]
    assert [(row["row"], row["reason"]) for row in after.quarantine] == [
        (2, "item_id is not among the items"),
        (3, "no time, while other rows have one"),
        (4, "the line is not JSON (it has no end)"),
    ]
    assert after.counts["from_log"] == 2 and after.counts["last_time"] == 3600
    (work / "events" / "log.jsonl").unlink()
    assert ingest(data).content == before.content


def test_an_event_that_was_pushed_again_counts_once(
    shop: Any, ingest: Any, log_events: Any, tmp_path: Path
) -> None:
    event = {"user_id": "u", "item_id": "c", "timestamp": 3000}
    log_events(tmp_path / "work", event, event | {"timestamp": 3001}, event)
    raw = ingest(shop())
    assert raw.counts["from_log"] == 2 and raw.counts["read"]["interactions"] == 6
    assert [(r["row"], r["reason"]) for r in raw.quarantine] == [
        (2, "the log has this event already")
    ]


def test_a_blank_time_column_drops_nothing(shop: Any, ingest: Any) -> None:
    raw = ingest(shop(HEAD + "u,a,\nu,b, \n"))
    assert raw.counts["has_times"] is False and raw.counts["repaired"]["interactions"] == {}


def test_without_times_in_the_source_those_of_the_log_are_dropped(
    shop: Any, ingest: Any, log_events: Any, tmp_path: Path
) -> None:
    log_events(tmp_path / "work", {"user_id": "u", "item_id": "b", "time": 3000})
    raw = ingest(shop("user_id,item_id\nu,a\n"))
    assert raw.column("timestamp") == [None, None] and raw.column("position") == [0, 1]
    assert raw.counts["has_times"] is False and raw.counts["first_time"] is None
    assert raw.counts["repaired"]["interactions"] == {"time dropped: the other rows have none": 1}


def test_one_row_with_a_time_asks_a_time_of_all(shop: Any, ingest: Any) -> None:
    lines = "".join(f"u,a,{'' if i < 9 else 1000}\n" for i in range(10))
    raw = ingest(shop(HEAD + lines))
    assert raw.column("timestamp") == [1000] and raw.column("position") == [0]
    assert raw.counts["quarantined"]["interactions"] == {"no time, while other rows have one": 9}


def test_without_an_items_file_the_items_are_those_of_the_interactions(
    shop: Any, ingest: Any
) -> None:
    raw = ingest(shop(HEAD + "u,b,1\nu,a,2\nv,b,3\n", items=None))
    assert raw.items["item_id"].to_pylist() == ["b", "a"]
    assert raw.items.schema.equals(ITEMS) and raw.items["title"].null_count == 2
    assert raw.counts["read"]["items"] == 2


def test_event_types_are_kept_or_filled(shop: Any, ingest: Any) -> None:
    raw = ingest(shop("user_id,item_id,event_type\nu,a,click\nu,b,\n"))
    assert raw.column("event_type") == ["click", "interaction"]


@pytest.mark.parametrize("kind", ["npy", "parquet"])
def test_vectors_are_joined_before_rows_are_removed(
    shop: Any, ingest: Any, tmp_path: Path, kind: str
) -> None:
    data = shop(items="item_id,title\na,A\na,again\nb,B\n,none\nc,C\n")
    vectors = np.arange(10, dtype=np.float16).reshape(5, 2)
    if kind == "npy":
        np.save(tmp_path / "shop" / "v.npy", vectors)
    else:
        table = pa.table({"item_id": ["c", "b", "a"], "vector": vectors[[4, 2, 0]].tolist()})
        pq.write_table(table, tmp_path / "shop" / "v.parquet")
    raw = ingest(data, {"name": "precomputed", "vectors": f"v.{kind}"})
    ids = pq.read_table(raw.path / "vectors" / "item_ids.parquet")["item_id"].to_pylist()
    joined = np.load(raw.path / "vectors" / "vectors.npy")
    assert ids == raw.items["item_id"].to_pylist() == ["a", "b", "c"]
    assert joined.dtype == np.float32 and joined.tolist() == vectors[[0, 2, 4]].tolist()
    assert raw.counts["vector_dim"] == 2


def test_vectors_that_do_not_fit_are_refused(shop: Any, ingest: Any, tmp_path: Path) -> None:
    data, folder = shop(), tmp_path / "shop"
    np.save(folder / "short.npy", np.ones((2, 4), np.float32))
    np.save(folder / "nan.npy", np.array([[1.0], [np.nan], [1.0]]))
    np.save(folder / "ints.npy", np.ones((3, 4), np.int64))
    np.save(folder / "objects.npy", np.array([{}], dtype=object), allow_pickle=True)
    pq.write_table(pa.table({"item_id": ["a"], "vector": [[1.0]]}), folder / "few.parquet")
    twice = {"item_id": ["x", "x", "a", "b", "c", "b"], "vector": [[1.0]] * 6}
    pq.write_table(pa.table(twice), folder / "twice.parquet")
    (folder / "no.npy").write_text("not an array")
    for name, named in (
        ("short.npy", "2 rows, the items source 3"),
        ("nan.npy", "vector of item 'b' is not finite"),
        ("ints.npy", "int64"),
        ("objects.npy", "not a .npy array"),
        ("twice.parquet", r"more than one vector for 1 items, \['b'\] among them"),
        ("few.parquet", r"no vector for 2 items, \['b', 'c'\]"),
        ("no.npy", "not a .npy array"),
    ):
        with pytest.raises(DataError, match=named):
            ingest(data, {"name": "precomputed", "vectors": name})
    for name in ("absent.npy", "vectors.txt"):
        with pytest.raises(UsageError, match=r"encoder\.vectors"):
            ingest(data, {"name": "precomputed", "vectors": name})


def test_the_key_follows_the_bytes_of_the_source(shop: Any, ingest: Any) -> None:
    first = ingest(shop())
    assert ingest(shop()).key == first.key
    assert ingest(shop(HEAD + "u,a,1\n")).key != first.key


def test_describe_counts_what_a_run_would_take_in(shop: Any) -> None:
    data = shop()
    told = describe(DataConfig(**data))
    assert (told["users"], told["items"], told["interactions"]) == (2, 3, 3)
    assert told["bytes"] == sum(p.stat().st_size for p in Path(data["path"]).iterdir())
    assert len(told["sha256"]) == 64


def test_memory_does_not_grow_with_the_file(shop: Any, ingest: Any) -> None:
    """Twenty times the rows, and the largest table in memory stays one batch."""
    text = io.StringIO()
    text.write(HEAD)
    text.writelines(f"u{i % 1000},a,{i}\n" for i in range(records.BATCH_ROWS * 3))
    data = shop(text.getvalue())
    base = pa.total_allocated_bytes()
    pool = pa.default_memory_pool()
    source = ingest_module.open_source(DataConfig(**data), seed=1)
    sizes = [
        (chunk.table.num_rows, pa.total_allocated_bytes() - base) for chunk in source.interactions()
    ]
    assert [rows for rows, _ in sizes] == [records.BATCH_ROWS] * 3
    assert max(size for _, size in sizes) < 4 * os.path.getsize(source.files()[0])
    assert sizes[-1][1] < 1.5 * sizes[0][1], pool.backend_name
