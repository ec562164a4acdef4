"""The content hash: equal for equal content, another one for any other."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tesserec.data.content import CONTENT, content_hashes
from tesserec.data.schemas import ITEMS

# few letters, so that texts meet; among them those that separate fields inside the hash
TEXT = st.one_of(st.none(), st.text(alphabet="ab\x1d\x1e\x1f", min_size=1, max_size=3))
ITEM = st.fixed_dictionaries(
    {
        "title": TEXT,
        "brand": TEXT,
        "categories": st.one_of(
            st.none(),
            st.lists(st.text(alphabet="ab\x1e", min_size=1, max_size=2), min_size=1, max_size=3),
        ),
        "price": st.one_of(st.none(), st.sampled_from([0.5, 1.0, 2.25])),
        "keywords": TEXT,
        "description": TEXT,
        "image_caption": TEXT,
    }
)


def table(rows: list[dict[str, Any]]) -> pa.Table:
    return pa.Table.from_pylist([{"item_id": str(i)} | r for i, r in enumerate(rows)], schema=ITEMS)


def key(row: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(tuple(v) if isinstance(v := row[name], list) else v for name in CONTENT)


@given(st.lists(ITEM, max_size=8))
def test_equal_content_is_equal_hash(rows: list[dict[str, Any]]) -> None:
    found = content_hashes(table(rows)).to_pylist()
    for row, one in zip(rows, found, strict=True):
        assert (one is None) == all(value is None for value in row.values())
        for other, two in zip(rows, found, strict=True):
            assert (one == two) == (key(row) == key(other)), (row, other)


@given(st.lists(ITEM, min_size=1, max_size=5), st.sets(st.sampled_from(CONTENT)))
def test_a_missing_column_is_one_of_nulls(rows: list[dict[str, Any]], gone: set[str]) -> None:
    null = table([row | dict.fromkeys(gone) for row in rows])
    missing = table(rows).drop_columns(sorted(gone))
    assert content_hashes(null).equals(content_hashes(missing))


@given(st.lists(ITEM, min_size=1, max_size=6), st.integers(0, 5))
def test_neighbours_and_chunks_do_not_matter(rows: list[dict[str, Any]], cut: int) -> None:
    whole = table(rows)
    cut = min(cut, len(rows))
    parts = pa.concat_tables([whole.slice(0, cut), whole.slice(cut)])
    alone = [content_hashes(whole.slice(i, 1))[0].as_py() for i in range(len(rows))]
    assert content_hashes(parts).to_pylist() == content_hashes(whole).to_pylist() == alone


@pytest.mark.parametrize("column", ["available", "listed_at"])
def test_what_is_no_content_does_not_count(column: str) -> None:
    row = {"item_id": "a", "title": "t"}
    other = row | {column: True if column == "available" else 5}
    hashes = content_hashes(pa.Table.from_pylist([row, other], schema=ITEMS)).to_pylist()
    assert hashes[0] == hashes[1] is not None
