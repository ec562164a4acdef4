"""The generated shop as a source: nothing is read, the rows follow from sizes and seed."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa

from tesserec.config import DataConfig
from tesserec.data.make import generate
from tesserec.data.records import BATCH_ROWS, Chunk


class Generated:
    """Shop of `data.generated_users` x `data.generated_items`, `data.generated_novel` of it new."""

    has_items = True
    time_unit = "s"

    def __init__(self, config: DataConfig, seed: int) -> None:
        self._config, self._seed = config, seed

    @cached_property
    def _tables(self) -> tuple[pa.Table, pa.Table]:
        config = self._config
        return generate(
            config.generated_users,
            config.generated_items,
            self._seed,
            novel=config.generated_novel,
        )

    def files(self) -> list[Path]:
        return []

    def items(self) -> Iterator[Chunk]:
        yield from _chunks(self._tables[1], "items (generated)")

    def interactions(self) -> Iterator[Chunk]:
        yield from _chunks(self._tables[0], "interactions (generated)")


def _chunks(table: pa.Table, file: str) -> Iterator[Chunk]:
    for start in range(0, table.num_rows, BATCH_ROWS):
        part = table.slice(start, BATCH_ROWS)
        yield Chunk(part, file, np.arange(start, start + part.num_rows))
