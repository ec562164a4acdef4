"""A given code table follows the items that are kept; one that doesn't fit is refused by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from tesserec.errors import DataError, UsageError
from tesserec.tokenizers import load_tokenizer
from tesserec.tokenizers.given import Given, given_codes

GIVEN = {"name": "given", "digits": 2, "codebook_size": 16, "codes": "c.npy"}


def test_codes_stay_with_their_items(shop: Any, ingest: Any, tmp_path: Path) -> None:
    data = shop(items="item_id,title\na,A\na,again\nb,B\n,none\nc,C\n")
    codes = np.arange(10).reshape(5, 2)
    np.save(tmp_path / "shop" / "c.npy", codes)
    raw = ingest(data, tokenizer=GIVEN)
    ids = pq.read_table(raw.path / "codes" / "item_ids.parquet")["item_id"].to_pylist()
    joined = np.load(raw.path / "codes" / "codes.npy")
    assert ids == ["a", "b", "c"] and joined.dtype == np.uint8
    assert joined.tolist() == codes[[0, 2, 4]].tolist()
    assert given_codes(raw.path / "codes", ["c", "a"]).tolist() == codes[[4, 0]].tolist()
    with pytest.raises(DataError, match="1 of 2 items have no codes, the first is 'z'"):
        given_codes(raw.path / "codes", ["a", "z"])
    np.save(tmp_path / "shop" / "c.npy", codes + 1)
    assert ingest(data, tokenizer=GIVEN).key != raw.key


@pytest.mark.parametrize(
    ("codes", "message"),
    [
        (np.zeros((2, 2), int), "2 rows, the items source 3"),
        (np.zeros((3, 5), int), "5 digits, tokenizer.digits is 2"),
        (np.zeros((3, 2)), "float64"),
        (np.array([[0, 0], [0, 16], [0, 0]]), "code 16 of item 'b', digit 1"),
        (np.array([[0, 0], [0, 0], [-1, 0]]), "code -1 of item 'c', digit 0"),
    ],
)
def test_codes_that_do_not_fit_are_refused(
    shop: Any, ingest: Any, tmp_path: Path, codes: np.ndarray, message: str
) -> None:
    data = shop()
    np.save(tmp_path / "shop" / "c.npy", codes)
    with pytest.raises(DataError, match=message):
        ingest(data, tokenizer=GIVEN)


def test_files_that_are_no_codes_are_refused(shop: Any, ingest: Any, tmp_path: Path) -> None:
    data = shop()
    (tmp_path / "shop" / "c.npy").write_text("not an array")
    with pytest.raises(DataError, match="is not a"):
        ingest(data, tokenizer=GIVEN)
    for name in ("absent.npy", "codes.csv"):
        with pytest.raises(UsageError, match=r"tokenizer\.codes"):
            ingest(data, tokenizer={**GIVEN, "codes": name})
    with pytest.raises(UsageError, match="name the file of codes"):
        ingest(data, tokenizer={**GIVEN, "codes": ""})


def test_a_given_table_cannot_encode(tmp_path: Path) -> None:
    Given(3, 8).save(tmp_path)
    loaded = load_tokenizer(tmp_path)
    assert (loaded.name, loaded.digits, loaded.codebook_size) == ("given", 3, 8)
    with pytest.raises(UsageError, match="can't encode"):
        loaded.encode(np.zeros((1, 4), np.float32))
