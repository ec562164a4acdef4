from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tesserec.data.sources import readers
from tesserec.errors import UsageError

EVENTS = [("ann", "p1", 1_700_000_000), ("bob", "p2", 1_700_000_100), ("ann", "p2", 1_700_000_200)]
GOODS = [("p1", "Tea pot", ["Home > Kitchen", "Gifts"], 12.5), ("p2", "Tea cup", ["Home"], None)]
COLUMNS = {
    "interactions": {"user_id": "who", "item_id": "what", "timestamp": "when"},
    "items": {"item_id": "sku", "title": "name", "categories": "paths"},
}


def write_csv(folder: Path, mark: str = ",", start: str = "") -> tuple[str, str]:
    lines = [mark.join(("who", "what", "when", "device"))]
    lines += [mark.join((u, i, str(t), "phone")) for u, i, t in EVENTS]
    (folder / "e.csv").write_text(start + "\r\n".join(lines) + "\r\n", encoding="utf-8")
    rows = [mark.join(("sku", "name", "paths", "price"))]
    rows += [mark.join((i, f'"{t}"', "|".join(c), str(p or ""))) for i, t, c, p in GOODS]
    (folder / "i.csv").write_text("\n".join(rows))
    return "e.csv", "i.csv"


def write_json(folder: Path) -> tuple[str, str]:
    rows = [{"who": u, "what": i, "when": t * 1000, "device": {"os": 1}} for u, i, t in EVENTS]
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (folder / "e.jsonl.gz").write_bytes(gzip.compress(text.encode()))
    goods = [
        {"sku": i, "name": t, "paths": [path.split(" > ") for path in c], "price": p}
        for i, t, c, p in GOODS
    ]
    (folder / "i.jsonl").write_text("\n".join(map(json.dumps, goods)))
    return "e.jsonl.gz", "i.jsonl"


def write_parquet(folder: Path) -> tuple[str, str]:
    users, items, times = zip(*EVENTS, strict=True)
    for n, part in enumerate((slice(0, 1), slice(1, 3))):
        when = pa.array(times[part], pa.int64()).cast(pa.timestamp("s"))
        who = pa.array(users[part]).dictionary_encode()
        table = pa.table({"who": who, "what": items[part], "when": when, "device": [1] * len(when)})
        pq.write_table(table, folder / f"e{n}.parquet")
    ids, titles, paths, prices = zip(*GOODS, strict=True)
    table = pa.table({"sku": ids, "name": titles, "paths": list(paths), "price": prices})
    pq.write_table(table, folder / "i.parquet")
    return "e*.parquet", "i.parquet"


@pytest.mark.parametrize("kind", ["csv", "semicolons", "bom", "json", "parquet"])
def test_a_folder_of_any_kind_gives_the_same_rows(ingest: Any, tmp_path: Path, kind: str) -> None:
    writers = {
        "csv": write_csv,
        "semicolons": lambda folder: write_csv(folder, ";"),
        "bom": lambda folder: write_csv(folder, ",", "\ufeff"),
        "json": write_json,
        "parquet": write_parquet,
    }
    events, goods = writers[kind](tmp_path)
    raw = ingest(
        {
            "source": "folder", "path": str(tmp_path), "interactions": events, "items": goods,
            "columns": COLUMNS,
        }
    )  # fmt: skip
    rows = zip(*(raw.column(n) for n in ("user_id", "item_id", "timestamp")), strict=True)
    assert list(rows) == EVENTS and raw.column("position") == [0, 0, 1]
    items = [
        tuple(row[n] for n in ("item_id", "title", "categories", "price"))
        for row in raw.items.to_pylist()
    ]
    assert items == GOODS and raw.quarantine == []
    assert raw.counts["unused_columns"] == {"interactions": ["device"], "items": []}


def test_the_only_interactions_file_is_found(ingest: Any, tmp_path: Path) -> None:
    (tmp_path / "interactions.csv").write_text("user_id,item_id\nu,a\n")
    data = {"source": "folder", "path": str(tmp_path)}
    assert ingest(data).column("item_id") == ["a"]
    (tmp_path / "interactions.jsonl").write_text("{}")
    with pytest.raises(UsageError, match=r"data\.interactions is empty"):
        ingest(data)


def test_numbers_as_ids_and_units_as_told(ingest: Any, tmp_path: Path) -> None:
    (tmp_path / "interactions.jsonl").write_text(
        '{"user_id": 7, "item_id": 12, "timestamp": 5000}\n'
    )
    data = {"source": "folder", "path": str(tmp_path), "time_unit": "ms"}
    raw = ingest(data)
    assert (raw.column("user_id"), raw.column("item_id")) == (["7"], ["12"])
    assert raw.column("timestamp") == [5]


MOVIES = [
    ("1", "Toy Story (1995)", ["Animation", "Comedy"]),
    ("2", 'Das "Boot", señor (1981)', None),
]


def write_100k(folder: Path) -> None:
    (folder / "u.data").write_text("5\t1\t3\t100\n6\t2\t1\t50\n5\t2\t4\t100\n")
    (folder / "u.genre").write_text("unknown|0\nAnimation|1\nComedy|2\n\n")
    rows = ["1|Toy Story (1995)|01-Jan-1995||http|0|1|1", '2|Das "Boot", señor (1981)||||0|0|0']
    (folder / "u.item").write_bytes("\n".join(rows).encode("latin-1"))


def write_1m(folder: Path) -> None:
    (folder / "ratings.dat").write_text("5::1::3::100\n6::2::1::50\n5::2::4::100\n")
    rows = ["1::Toy Story (1995)::Animation|Comedy", '2::Das "Boot", señor (1981)::']
    (folder / "movies.dat").write_bytes("\n".join(rows).encode("latin-1"))


def write_latest(folder: Path) -> None:
    rows = "userId,movieId,rating,timestamp\n5,1,3.0,100\n6,2,1.0,50\n5,2,4.0,100\n"
    (folder / "ratings.csv").write_text(rows)
    (folder / "movies.csv").write_text(
        "movieId,title,genres\n1,Toy Story (1995),Animation|Comedy\n"
        '2,"Das ""Boot"", señor (1981)",(no genres listed)\n',
        encoding="utf-8",
    )


@pytest.mark.parametrize("write", [write_100k, write_1m, write_latest])
def test_movielens_in_its_three_forms(ingest: Any, tmp_path: Path, write: Any) -> None:
    write(tmp_path)
    raw = ingest({"source": "movielens", "path": str(tmp_path)})
    assert raw.column("user_id") == ["5", "6", "5"] and raw.column("item_id") == ["1", "2", "2"]
    assert raw.column("timestamp") == [100, 50, 100] and raw.column("position") == [0, 0, 1]
    items = [(r["item_id"], r["title"], r["categories"]) for r in raw.items.to_pylist()]
    assert items == MOVIES and raw.quarantine == []
    assert "rating" in raw.counts["unused_columns"]["interactions"]


def test_a_folder_without_movielens_says_what_it_lacks(ingest: Any, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no u\.data, ratings\.dat or ratings\.csv"):
        ingest({"source": "movielens", "path": str(tmp_path)})


def gz(path: Path, lines: list[str]) -> None:
    path.write_bytes(gzip.compress("".join(f"{line}\n" for line in lines).encode()))


def test_amazon_2014(ingest: Any, tmp_path: Path) -> None:
    reviews = [
        {"reviewerID": "A", "asin": "B1", "overall": 5.0, "unixReviewTime": 1_390_000_000},
        {"reviewerID": "A", "asin": "B2", "overall": 1.0, "unixReviewTime": 1_390_000_000},
        {"reviewerID": "C", "asin": "B3", "overall": 1.0, "unixReviewTime": 1_400_000_000},
    ]  # fmt: skip
    gz(tmp_path / "reviews_Beauty_5.json.gz", [json.dumps(row) for row in reviews])
    meta = [
        "{'asin': 'B9', 'title': 'Nobody reviewed me'}",
        "{'asin': 'B2', 'title': 'Soap &amp; <b>Oil</b>\\n 5\"', 'price': 3.5, 'brand': 'Oi', "
        "'categories': [['Beauty', 'Bath & Body'], ['Gifts']], 'description': 'L\\'eau'}",
        '{"asin": "B1", "title": "As JSON"}',
        "{'asin': 'B1', 'title': broken",
    ]
    gz(tmp_path / "meta_Beauty.json.gz", meta)
    raw = ingest({"source": "amazon2014", "path": str(tmp_path)})
    assert raw.column("item_id") == ["B1", "B2", "B3"] and raw.column("position") == [0, 1, 0]
    rows = raw.items.to_pylist()
    assert [row["item_id"] for row in rows] == ["B2", "B1", "B3"]
    assert rows[0]["title"] == 'Soap & Oil 5"' and rows[0]["price"] == 3.5
    assert rows[0]["categories"] == ["Beauty > Bath & Body", "Gifts"]
    assert rows[0]["description"] == "L'eau" and rows[2]["title"] is None
    assert raw.counts["items_without_metadata"] == 1
    assert raw.counts["metadata_without_reviews"] == 1
    assert [(r["row"], r["reason"]) for r in raw.quarantine] == [(3, "the line is not JSON")]


@pytest.mark.parametrize("core", [False, True])
def test_amazon_2023(ingest: Any, tmp_path: Path, core: bool) -> None:
    reviews = [("U", "P1", 1_600_000_000_500), ("U", "P2", 1_600_000_001_000)]
    if core:
        rows = [
            "user_id,parent_asin,rating,timestamp",
            *(f"{u},{p},5.0,{t}" for u, p, t in reviews),
        ]
        gz(tmp_path / "All_Beauty.csv.gz", rows)
    else:
        rows = [
            json.dumps({"user_id": u, "asin": "x", "parent_asin": p, "timestamp": t, "rating": 5.0})
            for u, p, t in reviews
        ]
        gz(tmp_path / "All_Beauty.jsonl.gz", rows)
    meta = [
        {
            "parent_asin": "P2", "title": "Balm", "store": "Oi", "price": None,
            "main_category": "All", "categories": ["Beauty", "Lips"],
            "features": ["Soft", "Red"], "description": [],
        },
        {"parent_asin": "P1", "price": "from 3.99", "main_category": "All", "categories": []},
        {"parent_asin": "P7", "title": "Nobody"},
    ]  # fmt: skip
    gz(tmp_path / "meta_All_Beauty.jsonl.gz", [json.dumps(row) for row in meta])
    raw = ingest({"source": "amazon2023", "path": str(tmp_path)})
    assert raw.column("timestamp") == [1_600_000_000, 1_600_000_001]
    rows = raw.items.to_pylist()
    assert [row["item_id"] for row in rows] == ["P2", "P1"]
    assert rows[0]["brand"] == "Oi" and rows[0]["keywords"] == "Soft Red"
    assert rows[0]["categories"] == ["Beauty > Lips"] and rows[0]["description"] is None
    assert rows[1]["categories"] == ["All"] and rows[1]["price"] is None
    assert raw.counts["repaired"]["items"] == {"price cannot be read: null": 1}
    assert raw.counts["metadata_without_reviews"] == 1


def test_amazon_files_that_are_not_alone_must_be_named(ingest: Any, tmp_path: Path) -> None:
    gz(tmp_path / "meta_X.json.gz", ["{'asin': 'a'}"])
    data = {"source": "amazon2014", "path": str(tmp_path)}
    with pytest.raises(UsageError, match="one file of reviews, but has none"):
        ingest(data)
    review = json.dumps({"reviewerID": "A", "asin": "a", "unixReviewTime": 5})
    for name in ("reviews_X_5.json.gz", "reviews_X.json.gz"):
        gz(tmp_path / name, [review])
    with pytest.raises(UsageError, match=r"several: reviews_X.json.gz, reviews_X_5.json.gz"):
        ingest(data)
    assert ingest({**data, "interactions": "reviews_X_5.json.gz"}).column("item_id") == ["a"]


def test_one_file_holds_both_tables_and_an_items_first_row_counts(
    ingest: Any, tmp_path: Path
) -> None:
    text = "who,what,when,name\nann,p1,1,Tea pot\nbob,p1,2,Teapot\nann,p2,3,Cup\n,p3,4,Lost\n"
    (tmp_path / "both.csv").write_text(text)
    columns = {
        "interactions": {"user_id": "who", "item_id": "what", "timestamp": "when"},
        "items": {"item_id": "what", "title": "name"},
    }
    names = {"interactions": "both.csv", "items": "both.csv"}
    raw = ingest({"source": "folder", "path": str(tmp_path), "columns": columns, **names})
    assert raw.items["title"].to_pylist() == ["Tea pot", "Cup", "Lost"]
    assert raw.column("item_id") == ["p1", "p1", "p2"]
    assert [row["reason"] for row in raw.quarantine] == ["no user_id"]


def test_one_file_for_both_tables_may_have_a_batch_without_a_new_item(
    ingest: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(readers, "BATCH_ROWS", 4)
    lines = [f"u{i},p{i % 2},{i + 1}\n" for i in range(12)] + ["u, p1,99\n", "torn\n"]
    (tmp_path / "both.csv").write_text("user_id,item_id,timestamp\n" + "".join(lines))
    names = {"interactions": "both.csv", "items": "both.csv"}
    raw = ingest({"source": "folder", "path": str(tmp_path), **names})
    assert raw.items["item_id"].to_pylist() == ["p0", "p1"]
    assert raw.counts["kept"] == {"interactions": 13, "items": 2}
    assert raw.counts["read"] == {"interactions": 14, "items": 2}  # the torn line counts once


def test_item_files_of_one_name_in_two_folders_have_rows_of_their_own(
    ingest: Any, tmp_path: Path
) -> None:
    for folder, items in (("x", "a\nb\n"), ("y", "c\nd\n")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "items.csv").write_text(f"item_id\n{items}")
    (tmp_path / "events.csv").write_text("user_id,item_id,timestamp\nu,a,1\nu,d,2\n")
    np.save(tmp_path / "v.npy", np.arange(4, dtype=np.float32)[:, None])
    names = {"interactions": "events.csv", "items": "*/items.csv"}
    raw = ingest(
        {"source": "folder", "path": str(tmp_path), **names},
        {"name": "precomputed", "vectors": "v.npy"},
    )
    assert np.load(raw.path / "vectors" / "vectors.npy").ravel().tolist() == [0, 1, 2, 3]
