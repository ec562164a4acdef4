"""A folder with `interactions.parquet` and `items.parquet` in our own form (docs/data.md)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from tesserec.config import DataConfig
from tesserec.data.records import INTERACTION_COLUMNS, ITEM_COLUMNS, Chunk
from tesserec.data.sources.readers import need_file, read_parquet


class Tesserec:
    """Column names are the contract's; others are named once and not used."""

    has_items = True
    time_unit = "s"

    def __init__(self, config: DataConfig, seed: int) -> None:
        folder = Path(config.path)
        self._interactions = need_file(folder, config.interactions or "interactions.parquet")
        self._items = need_file(folder, config.items or "items.parquet")

    def files(self) -> list[Path]:
        return [self._interactions, self._items]

    def items(self) -> Iterator[Chunk]:
        yield from read_parquet(self._items, {name: name for name in ITEM_COLUMNS}, ("item_id",))

    def interactions(self) -> Iterator[Chunk]:
        columns = {name: name for name in INTERACTION_COLUMNS}
        yield from read_parquet(self._interactions, columns, ("user_id", "item_id"))
