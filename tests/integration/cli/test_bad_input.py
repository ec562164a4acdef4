"""Bad input through `tesserec run`: each has its message and its exit code."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml

from tests.command import tesserec

GOOD = "user_id,item_id,timestamp\n" + "".join(
    f"u{n % 20},i{n % 7},{1_700_000_000 + n}\n" for n in range(200)
)
ITEMS = "item_id,title\n" + "".join(f"i{n},Thing {n}\n" for n in range(7))


def write(events: str | bytes = GOOD, items: str | bytes = ITEMS, name: str = "events.csv"):
    def make(folder: Path) -> dict:
        for file, text in ((name, events), ("items.csv", items)):
            (folder / file).write_bytes(text.encode() if isinstance(text, str) else text)
        return {"interactions": name, "items": "items.csv"}

    return make


def wrong_type(folder: Path) -> dict:
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.table({"user_id": [1.5], "item_id": ["i1"], "timestamp": [1]})
    pq.write_table(table, folder / "events.parquet")
    (folder / "items.csv").write_text(ITEMS)
    return {"interactions": "events.parquet", "items": "items.csv"}


def short_vectors(folder: Path) -> dict:
    np.save(folder / "v.npy", np.ones((3, 4), np.float32))
    return write()(folder)


LATER = "4102444800"  # the year 2100
BAD: dict[str, tuple[Callable[[Path], dict], int, str]] = {
    "missing column": (write(GOOD.replace("item_id", "sku")), 1, "has no column 'item_id'"),
    "wrong type": (wrong_type, 1, "column 'user_id': a column of type double holds no text"),
    "unparsable time": (write(GOOD.replace(",17", ",x17")), 1, "time cannot be read"),
    "future time": (
        write(GOOD.splitlines()[0] + f"\nu1,i1,{LATER}\n" * 3), 1, "time lies in the future",
    ),
    "duplicate item id": (write(items=ITEMS + "i1,Again\n" * 7), 1, "item_id occurs before"),
    "unknown item": (write(items=ITEMS[:30]), 1, "item_id is not among the items"),
    "non-UTF-8": (write(GOOD.replace("u1", "\xfc").encode("latin-1")), 1, "user_id is not UTF-8"),
    "titles in another encoding": (
        write(items=ITEMS.replace("Thing", "D\xfcse").encode("latin-1")), 1,
        "title is not UTF-8; save the file as UTF-8",
    ),
    "truncated gzip": (
        write(gzip.compress(GOOD.encode())[:-20], name="events.csv.gz"), 1,
        "truncated or damaged gzip",
    ),
    "empty file": (write(""), 1, "is empty"),
    "header alone": (write(GOOD.splitlines()[0] + "\n"), 1, "is empty"),
    "vectors of other items": (short_vectors, 1, "has 3 rows"),
    "no such file": (lambda f: {"interactions": "none.csv"}, 2, "there is no none.csv"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_named_and_nothing_is_published(case: str, tmp_path: Path) -> None:
    make, code, message = BAD[case]
    shop = tmp_path / "shop"
    shop.mkdir()
    run: dict = {"data": {"source": "folder", "path": "shop", **make(shop)}}
    if case.startswith("vectors"):
        run["encoder"] = {"name": "precomputed", "vectors": "v.npy"}
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(run))
    workdir = tmp_path / "work"
    done = tesserec("run", str(tmp_path / "run.yaml"), "--workdir", str(workdir))
    assert done.returncode == code, done.stderr
    assert message in done.stderr, done.stderr
    assert "Traceback" not in done.stderr
    assert not list(workdir.glob("artifacts/raw-*")) and not (workdir / "promoted").exists()
    assert list(workdir.glob("reports/*/report.html")), "the report is written after a failure too"
