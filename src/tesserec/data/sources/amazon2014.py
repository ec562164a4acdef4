"""Amazon reviews 2014 (McAuley et al., SIGIR 2015): `reviews_X_5.json.gz` and `meta_X.json.gz`."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tesserec.config import DataConfig
from tesserec.data.records import Chunk
from tesserec.data.sources.amazon import ITEM_TEXT, ItemsOfReviews, clean, find
from tesserec.data.sources.readers import read_json_lines

_ASIN = re.compile(r"""["']asin["']:\s*["']([^"']*)["']""")


class Amazon2014:
    """Every review is an interaction in file order; days are its times, so ties are common."""

    has_items = True
    time_unit = "s"

    def __init__(self, config: DataConfig, seed: int) -> None:
        folder = Path(config.path)
        self._reviews = find(folder, config.interactions, _is_reviews, "file of reviews")
        self._meta = find(folder, config.items, lambda n: n.startswith("meta_"), "meta_*.json.gz")
        self._items = ItemsOfReviews()

    @property
    def notes(self) -> dict[str, int]:
        """What the counts tell besides."""
        return self._items.notes

    def files(self) -> list[Path]:
        return [self._reviews, self._meta]

    def interactions(self) -> Iterator[Chunk]:
        yield from read_json_lines(self._reviews, _review, ("user_id", "item_id", "timestamp"))

    def items(self) -> Iterator[Chunk]:
        wanted = self._items.reviewed(self.interactions())
        self._items.notes["metadata_without_reviews"] = 0

        def parse(line: str) -> Any:
            # Parsing a Python literal takes 0.1 ms; most lines are of items that nobody reviewed.
            found = _ASIN.search(line)
            return None if found and found[1] not in wanted else _literal(line)

        def skip() -> None:
            self._items.notes["metadata_without_reviews"] += 1

        chunks = read_json_lines(self._meta, _item, ITEM_TEXT, parse=parse, on_none=skip)
        yield from self._items.complete(chunks, self._reviews.name)


def _is_reviews(name: str) -> bool:
    return not name.startswith("meta_") and name.endswith((".json", ".json.gz"))


def _literal(line: str) -> Any:
    """The 2014 metadata are Python dictionaries in print, not JSON; later copies are JSON."""
    try:
        return json.loads(line)
    except ValueError:
        return ast.literal_eval(line.strip())


def _review(record: dict[str, Any]) -> dict[str, Any]:
    time = record.get("unixReviewTime")
    return {
        "user_id": _text(record.get("reviewerID")),
        "item_id": _text(record.get("asin")),
        "timestamp": _text(time),
    }


def _item(record: dict[str, Any]) -> dict[str, Any]:
    paths = record.get("categories") or []
    return {
        "item_id": _text(record.get("asin")),
        "title": clean(record.get("title")),
        "brand": clean(record.get("brand")),
        "categories": [" > ".join(clean(level) or "" for level in path) for path in paths],
        "price": _text(record.get("price")),
        "description": clean(record.get("description")),
        "keywords": clean(record.get("feature")),
    }


def _text(value: Any) -> str | None:
    return None if value is None else str(value)
