"""What a source hands over: chunks of rows under our names, and rows that it could not read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
import pyarrow as pa

INTERACTION_COLUMNS = ("user_id", "item_id", "timestamp", "position", "event_type")
ITEM_COLUMNS = (
    "item_id", "title", "brand", "categories", "price", "description", "keywords", "image_caption",
    "available", "listed_at",
)  # fmt: skip
BATCH_ROWS = 65_536


@dataclass(frozen=True)
class Bad:
    """A row or line that could not be read at all."""

    row: int  # 0-based in its file
    reason: str
    record: str


@dataclass(frozen=True)
class Chunk:
    """Some rows of one file, in file order; columns have our names, and whatever type."""

    table: pa.Table
    file: str
    rows: np.ndarray  # int64: 0-based row of each in the file
    bad: Sequence[Bad] = ()
    unused: Sequence[str] = ()  # columns of the file that we have no use for


class Source(Protocol):
    """Where interactions and items come from; each call of a method reads anew from the start."""

    has_items: bool  # False: the items are those of the interactions
    time_unit: str

    def files(self) -> list[Path]: ...
    def items(self) -> Iterator[Chunk]: ...
    def interactions(self) -> Iterator[Chunk]: ...


@dataclass
class Counts:
    """What came in, and what became of it."""

    read: dict[str, int] = field(default_factory=lambda: {"interactions": 0, "items": 0})
    kept: dict[str, int] = field(default_factory=lambda: {"interactions": 0, "items": 0})
    quarantined: dict[str, dict[str, int]] = field(
        default_factory=lambda: {"interactions": {}, "items": {}}
    )
    repaired: dict[str, dict[str, int]] = field(
        default_factory=lambda: {"interactions": {}, "items": {}}
    )
    unused_columns: dict[str, list[str]] = field(
        default_factory=lambda: {"interactions": [], "items": []}
    )

    def refuse(self, table: str, reason: str, rows: int = 1) -> None:
        _add(self.quarantined[table], reason, rows)

    def repair(self, table: str, what: str, rows: int) -> None:
        _add(self.repaired[table], what, rows)

    def unused(self, table: str, names: Sequence[str]) -> list[str]:
        """Remember unused columns; returns those that are new."""
        new = [name for name in names if name not in self.unused_columns[table]]
        self.unused_columns[table].extend(new)
        return new

    def bad(self, table: str) -> int:
        return sum(self.quarantined[table].values())


def _add(counts: dict[str, int], key: str, n: int) -> None:
    if n:
        counts[key] = counts.get(key, 0) + n
