"""Amazon reviews 2023 (Hou et al., 2024): `X.jsonl.gz` or 5-core `X.csv.gz`; `meta_X.jsonl.gz`."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tesserec.config import DataConfig
from tesserec.data.records import Chunk
from tesserec.data.sources.amazon import ITEM_TEXT, ItemsOfReviews, clean, find
from tesserec.data.sources.readers import read_delimited, read_json_lines

_PARENT = re.compile(r'"parent_asin":\s*"([^"]*)"')
_COLUMNS = {"user_id": "user_id", "item_id": "parent_asin", "timestamp": "timestamp"}


class Amazon2023:
    """Every review is an interaction; the item is the parent of its variants; times are in ms."""

    has_items = True
    time_unit = "auto"  # raw files: ms; some of the 5-core files: s

    def __init__(self, config: DataConfig, seed: int) -> None:
        folder = Path(config.path)
        self._reviews = find(folder, config.interactions, _is_reviews, "file of reviews")
        self._meta = find(folder, config.items, lambda n: n.startswith("meta_"), "meta_*.jsonl.gz")
        self._items = ItemsOfReviews()

    @property
    def notes(self) -> dict[str, int]:
        """What the counts tell besides."""
        return self._items.notes

    def files(self) -> list[Path]:
        return [self._reviews, self._meta]

    def interactions(self) -> Iterator[Chunk]:
        if self._reviews.name.removesuffix(".gz").endswith(".csv"):
            yield from read_delimited(self._reviews, _COLUMNS, tuple(_COLUMNS))
        else:
            yield from read_json_lines(self._reviews, _review, tuple(_COLUMNS))

    def items(self) -> Iterator[Chunk]:
        wanted = self._items.reviewed(self.interactions())
        self._items.notes["metadata_without_reviews"] = 0

        def parse(line: str) -> Any:
            found = _PARENT.search(line)
            return None if found and found[1] not in wanted else json.loads(line)

        def skip() -> None:
            self._items.notes["metadata_without_reviews"] += 1

        chunks = read_json_lines(self._meta, _item, ITEM_TEXT, parse=parse, on_none=skip)
        yield from self._items.complete(chunks, self._reviews.name)


def _is_reviews(name: str) -> bool:
    kinds = (".jsonl", ".jsonl.gz", ".csv", ".csv.gz")
    return not name.startswith("meta_") and name.endswith(kinds)


def _review(record: dict[str, Any]) -> dict[str, Any]:
    return {ours: _text(record.get(theirs)) for ours, theirs in _COLUMNS.items()}


def _item(record: dict[str, Any]) -> dict[str, Any]:
    levels = [clean(level) or "" for level in record.get("categories") or []]
    main = clean(record.get("main_category"))
    return {
        "item_id": _text(record.get("parent_asin")),
        "title": clean(record.get("title")),
        "brand": clean(record.get("store")),
        "categories": [" > ".join(levels)] if levels else [main] if main else None,
        "price": _text(record.get("price")),
        "description": clean(record.get("description")),
        "keywords": clean(record.get("features")),
    }


def _text(value: Any) -> str | None:
    return None if value is None else str(value)
