from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pyarrow as pa
import pytest

from tesserec.data.schemas import ITEMS


@pytest.fixture(scope="session")
def make_items() -> Callable[[Sequence[dict[str, Any]]], pa.Table]:
    """An items table of the data contract; keys that a row lacks are null."""

    def make(rows: Sequence[dict[str, Any]]) -> pa.Table:
        full = [{"item_id": f"i{n}", **row} for n, row in enumerate(rows)]
        return pa.Table.from_pylist(full, schema=ITEMS)

    return make


WORDS = [
    "red",
    "blue",
    "green",
    "nail",
    "polish",
    "lipstick",
    "cream",
    "soap",
    "brush",
    "mirror",
    "oil",
    "rose",
    "mint",
    "dry",
    "soft",
]


@pytest.fixture(scope="session")
def shop(make_items: Callable[[Sequence[dict[str, Any]]], pa.Table]) -> pa.Table:
    """120 items with differing texts, a few with none."""
    rows: list[dict[str, Any]] = []
    for n in range(120):
        picks = [WORDS[(n * step + n // 15) % len(WORDS)] for step in (1, 2, 4, 7)]
        rows.append({"title": " ".join(picks), "brand": f"brand{n % 7}", "price": 1.5 * n})
    rows[17] = rows[90] = {}
    return make_items(rows)
