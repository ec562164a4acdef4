"""The table of docs/data.md: what is refused, quarantined, repaired, each with its message."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tesserec.errors import DataError, UsageError

HEAD = "user_id,item_id,timestamp\n"
GOOD = HEAD + "".join(f"u{i % 3},a,{1000 + i}\n" for i in range(40))


def parquet(path: Path, **columns: Any) -> None:
    pq.write_table(pa.table(columns), path)


# --- refused: the source as a whole ---------------------------------------------------------------


def test_a_missing_column_names_what_is_there_and_the_nearest(shop: Any, ingest: Any) -> None:
    with pytest.raises(
        DataError, match=r"no column 'item_id'.*it has: user_id, item_uid.*item_uid"
    ):
        ingest(shop("user_id,item_uid\nu,a\n"))
    with pytest.raises(DataError, match="no column 'user_id' for 'user_id'"):
        ingest(shop('{"item_id": "a"}\n', name="e.jsonl"))
    with pytest.raises(DataError, match="no column 'when' for 'timestamp'"):
        ingest(shop(columns={"interactions": {"timestamp": "when"}}))


def test_a_column_of_the_wrong_type_is_refused(shop: Any, ingest: Any, tmp_path: Path) -> None:
    data = shop()
    path = tmp_path / "shop" / "e.parquet"
    for columns, named in (
        ({"user_id": [1.5], "item_id": ["a"]}, "'user_id': a column of type double"),
        (
            {"user_id": ["u"], "item_id": ["a"], "timestamp": [[1]]},
            "'timestamp': a column of type list",
        ),
    ):
        parquet(path, **columns)
        with pytest.raises(DataError, match=named):
            ingest(data | {"interactions": "e.parquet"})


@pytest.mark.parametrize("text", ["", "user_id,item_id,timestamp\n", "\n\n"])
def test_an_empty_file_is_refused(shop: Any, ingest: Any, text: str) -> None:
    with pytest.raises(DataError, match="empty"):
        ingest(shop(text))


def test_a_truncated_gzip_is_refused(shop: Any, ingest: Any) -> None:
    lines = "".join(f'{{"user_id": "u{i}", "item_id": "a"}}\n' for i in range(5000))
    whole = gzip.compress(lines.encode())
    assert ingest(shop(whole, name="e.jsonl.gz")).counts["kept"]["interactions"] == 5000
    for broken in (whole[:-20], whole[: len(whole) // 2], whole[:-8] + b"\0" * 8):
        with pytest.raises(DataError, match=r"e\.jsonl\.gz is a truncated or damaged gzip"):
            ingest(shop(broken, name="e.jsonl.gz"))
    with pytest.raises(DataError, match="is not gzip"):
        ingest(shop(lines, name="e.jsonl.gz"))


def test_a_broken_parquet_file_is_refused(shop: Any, ingest: Any, tmp_path: Path) -> None:
    data = shop()
    path = tmp_path / "shop" / "e.parquet"
    parquet(path, user_id=["u"] * 1000, item_id=["a"] * 1000)
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(DataError, match=r"e\.parquet is not a whole Parquet file"):
        ingest(data | {"interactions": "e.parquet"})


def test_a_quote_without_end_is_refused(shop: Any, ingest: Any) -> None:
    with pytest.raises(DataError, match="never ends"):
        ingest(shop(GOOD + 'u,"a,1\n' + "u,a,1\n" * 5))


def test_too_many_bad_rows_stop_the_run_and_are_kept_for_reading(
    shop: Any, ingest: Any, tmp_path: Path
) -> None:
    data = shop(GOOD + "u,zzz,1000\n" * 5, max_bad_share=0.05)
    with pytest.raises(DataError) as caught:
        ingest(data)
    message = str(caught.value)
    assert "5 of 45 interactions are refused (11.1%, allowed 5.0%)" in message
    assert "item_id is not among the items: 5" in message
    assert message.count("events.csv row 4") == 3  # three examples
    side = next((tmp_path / "work" / "reports" / "logs").rglob("quarantine.parquet"))
    assert str(side) in message and pq.read_metadata(side).num_rows == 5
    assert not list((tmp_path / "work" / "artifacts").glob("raw-*"))


def test_nothing_usable_is_refused(shop: Any, ingest: Any) -> None:
    with pytest.raises(DataError, match="none of 1 interactions is usable"):
        ingest(shop(HEAD + "u,zzz,5\n"))


def test_missing_files_and_wrong_settings_are_usage_errors(shop: Any, ingest: Any) -> None:
    for change, named in (
        ({"interactions": "nope.csv"}, "no nope.csv in"),
        ({"interactions": "*.xml"}, r"fits '\*\.xml'"),
        ({"path": "/nowhere"}, "no folder /nowhere"),
        ({"columns": {"interactions": {"usr_id": "x"}}}, "did you mean 'user_id'"),
        ({"columns": {"event": {}}}, "use interactions and items"),
    ):
        with pytest.raises(UsageError, match=named):
            ingest(shop() | change)
    with pytest.raises(UsageError, match="no known kind"):
        ingest(shop(name="events.xls"))


# --- quarantined: single rows, with reason and content --------------------------------------------


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"u,a,soon", "time cannot be read"),
        (b"u,a,", "no time, while other rows have one"),
        (b"u,a,4102444800", "time lies in the future"),
        (b"u,a,2999-01-01T00:00:00Z", "time lies in the future"),
        (b"u,a,-5", "time lies before 1970"),
        (b",a,1000", "no user_id"),
        (b"u,  ,1000", "no item_id"),
        (b"u,zzz,1000", "item_id is not among the items"),
        (b"u\xff,a,1000", "user_id is not UTF-8"),
        (b"u,\xe9,1000", "item_id is not UTF-8"),
        (b"u,a", "the row has 2 fields, not 3"),
        (b'u,"a"b,1000', "the line is not CSV"),
    ],
)
def test_a_bad_line_of_csv(shop: Any, ingest: Any, line: bytes, reason: str) -> None:
    raw = ingest(shop(GOOD.encode() + line + b"\nlast,b,1000\n"))
    assert raw.counts["kept"]["interactions"] == 41 and raw.column("user_id")[-1] == "last"
    (row,) = raw.quarantine
    assert row["reason"].startswith(reason) and row["row"] == 40 and row["file"] == "events.csv"
    assert raw.counts["quarantined"]["interactions"] == {row["reason"]: 1}
    assert row["record"] or "CSV" in reason


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b'{"user_id": "u", "item_id"', "the line is not JSON"),
        (b"[1, 2]", "the line is not a JSON object"),
        (b"7", "the line is not a JSON object"),
        (b"\xff\xfe", "the line is not JSON"),
        (b'{"user_id": "u\xff", "item_id": "a"}', "user_id is not UTF-8"),
        (b'{"user_id": "\\ud800", "item_id": "a"}', "user_id is not UTF-8"),
        (b'{"item_id": "a"}', "no user_id"),
    ],
)
def test_a_bad_line_of_json(shop: Any, ingest: Any, line: bytes, reason: str) -> None:
    good = b'{"user_id": "u", "item_id": "a"}\n' * 3
    raw = ingest(shop(good + line + b"\n" + good, name="e.jsonl"))
    assert raw.column("position") == list(range(6))
    assert [(r["row"], r["reason"]) for r in raw.quarantine] == [(3, reason)]


def test_the_second_of_two_equal_items_is_quarantined(shop: Any, ingest: Any) -> None:
    raw = ingest(shop(items="item_id,title\na,First\nb,B\nc,C\na,Second\n,None\n"))
    assert raw.items["title"].to_pylist() == ["First", "B", "C"]
    reasons = [(r["table"], r["row"], r["reason"]) for r in raw.quarantine]
    assert reasons == [
        ("items", 3, "item_id occurs before; the first one is kept"),
        ("items", 4, "no item_id"),
    ]
    assert '"title": "Second"' in raw.quarantine[0]["record"]


def test_bytes_of_parquet_that_are_not_utf8(shop: Any, ingest: Any, tmp_path: Path) -> None:
    data = shop()
    users = pa.array([b"u", b"\xff"], pa.binary()).view(pa.string())
    parquet(tmp_path / "shop" / "e.parquet", user_id=users, item_id=["a", "a"])
    raw = ingest(data | {"interactions": "e.parquet"})
    assert raw.column("user_id") == ["u"]
    assert raw.quarantine[0]["reason"] == "user_id is not UTF-8"
    assert "\\xff" in raw.quarantine[0]["record"] or "\\\\xff" in raw.quarantine[0]["record"]


# --- repaired: the row stays, the change is counted -----------------------------------------------


def test_repairs_are_counted(shop: Any, ingest: Any) -> None:
    items = (
        b"item_id,title,price,available,listed_at,categories\n"
        b' a ,Caf\xe9,$1,yes,2024-01-01,x|y\nb,B,12 - 15,perhaps,someday,\nc,C,"1,299.50",0,, z \n'
    )
    raw = ingest(shop(HEAD + " u ,a,1000\nu,b ,2000\n", items))
    rows = raw.items.to_pylist()
    assert rows[0]["title"] == "Caf�" and rows[0]["categories"] == ["x", "y"]
    assert [row["price"] for row in rows] == [1.0, None, 1299.5]
    assert [row["available"] for row in rows] == [True, None, False]
    assert [row["listed_at"] for row in rows] == [1_704_067_200, None, None]
    assert rows[2]["categories"] == ["z"] and rows[1]["categories"] is None
    assert raw.counts["repaired"]["items"] == {
        "white space around item_id": 1,
        "title is not UTF-8: U+FFFD": 1,
        "price cannot be read: null": 1,
        "available cannot be read: null": 1,
        "listed_at cannot be read: null": 1,
    }
    assert raw.counts["repaired"]["interactions"] == {
        "white space around user_id": 1,
        "white space around item_id": 1,
    }
    assert raw.column("user_id") == ["u", "u"] and raw.quarantine == []


def test_every_row_is_accounted_for(ingest: Any, tmp_path: Path) -> None:
    from tesserec.data.make import make_shop

    make_shop(tmp_path / "dirty", 400, 200, seed=9, dirty=0.3)
    raw = ingest({"source": "tesserec", "path": str(tmp_path / "dirty")})
    counts = raw.counts
    for table in ("interactions", "items"):
        bad = sum(counts["quarantined"][table].values())
        assert bad > 0 and counts["read"][table] == counts["kept"][table] + bad
    assert len(raw.quarantine) == sum(sum(c.values()) for c in counts["quarantined"].values())
    assert set(counts["quarantined"]["interactions"]) == {
        "no user_id", "no item_id", "item_id is not among the items", "time lies before 1970",
        "no time, while other rows have one", "time lies in the future",
    }  # fmt: skip
    assert counts["repaired"]["interactions"]["white space around item_id"] > 0
