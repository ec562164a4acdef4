"""A folder of Parquet, CSV or JSON-lines files, with the names of its columns in the run's YAML."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from tesserec.config import DataConfig
from tesserec.data.records import INTERACTION_COLUMNS, ITEM_COLUMNS, Chunk
from tesserec.data.sources.readers import (
    mapped,
    need_file,
    opened,
    read_delimited,
    read_json_lines,
    read_parquet,
)
from tesserec.errors import DataError, UsageError

KINDS = {
    ".parquet": "parquet", ".csv": "csv", ".tsv": "csv", ".jsonl": "json", ".ndjson": "json",
    ".json": "json",
}  # fmt: skip


class Folder:
    """`data.interactions` and `data.items` name a file or a pattern inside `data.path`."""

    def __init__(self, config: DataConfig, seed: int) -> None:
        folder = Path(config.path)
        self.time_unit = config.time_unit
        if unknown := set(config.columns) - {"interactions", "items"}:
            raise UsageError(f"data.columns has {sorted(unknown)}; use interactions and items")
        self._names = {
            "interactions": _names(config, "interactions", INTERACTION_COLUMNS),
            "items": _names(config, "items", ITEM_COLUMNS),
        }
        self._given = {table: tuple(names) for table, names in config.columns.items()}
        self._interactions = _find(folder, config.interactions or _guess(folder))
        self._items = _find(folder, config.items) if config.items else []
        self.has_items = bool(config.items)

    def files(self) -> list[Path]:
        return [*self._interactions, *self._items]

    def items(self) -> Iterator[Chunk]:
        chunks = (c for path in self._items for c in self._read(path, "items", ("item_id",)))
        yield from _first_of_each(chunks) if self._items == self._interactions else chunks

    def interactions(self) -> Iterator[Chunk]:
        for path in self._interactions:
            yield from self._read(path, "interactions", ("user_id", "item_id"))

    def _read(self, path: Path, table: str, must: Sequence[str]) -> Iterator[Chunk]:
        columns = self._names[table]
        # What the YAML names has to be there too: a typing error must not become a null column.
        required = (*must, *(n for n in self._given.get(table, ()) if n not in must))
        kind = kind_of(path)
        if kind == "parquet":
            yield from read_parquet(path, columns, required)
        elif kind == "csv":
            yield from read_delimited(path, columns, required, delimiter=_delimiter(path))
        else:
            yield from _read_json(path, columns, required)


def kind_of(path: Path) -> str:
    """parquet, csv or json, by the file's name.

    Raises:
        UsageError: none of them.
    """
    kind = KINDS.get(Path(path.name.removesuffix(".gz")).suffix.lower())
    if kind is None:
        raise UsageError(f"{path.name} is of no known kind; use one of {', '.join(KINDS)}, or .gz")
    return kind


def _first_of_each(chunks: Iterator[Chunk]) -> Iterator[Chunk]:
    """One file holds both tables, an item described in each of its rows: its first row counts.

    Lines that cannot be read are told once, with the interactions.
    """
    seen: set[Any] = set()
    for chunk in chunks:
        ids = [i.strip() if isinstance(i, str) else i for i in chunk.table["item_id"].to_pylist()]
        first = np.array([not (i is None or i in seen or seen.add(i)) for i in ids], bool)
        if first.any():
            table = chunk.table.filter(pa.array(first))
            yield replace(chunk, table=table, rows=chunk.rows[first], bad=())


def _names(config: DataConfig, table: str, ours: Sequence[str]) -> dict[str, str]:
    given: Mapping[str, str] = config.columns.get(table) or {}
    for name in given:
        if name not in ours:
            near = difflib.get_close_matches(name, ours, n=1)
            hint = f"did you mean '{near[0]}'?" if near else f"known: {', '.join(ours)}"
            raise UsageError(f"data.columns.{table} maps '{name}', which we do not have; {hint}")
    return {name: str(given.get(name, name)) for name in ours}


def _guess(folder: Path) -> str:
    found = sorted(p.name for p in folder.glob("interactions.*")) if folder.is_dir() else []
    if len(found) != 1:
        raise UsageError(f"data.interactions is empty; name the file of interactions in {folder}")
    return found[0]


def _find(folder: Path, pattern: str) -> list[Path]:
    if not any(letter in pattern for letter in "*?["):
        return [need_file(folder, pattern)]
    found = sorted(p for p in folder.glob(pattern) if p.is_file())
    if not found:
        raise UsageError(f"no file in {folder} fits {pattern!r}; set data.interactions, data.items")
    return [need_file(folder, str(path.relative_to(folder))) for path in found]


def _delimiter(path: Path) -> str:
    """The commonest of comma, semicolon and tab in the header line."""
    with opened(path) as stream:
        header = stream.readline()
    return max(",;\t", key=lambda mark: header.count(mark.encode()))


def _read_json(path: Path, columns: dict[str, str], required: Sequence[str]) -> Iterator[Chunk]:
    seen: dict[str, None] = {}
    unused: list[str] = []

    def pick(record: dict[str, Any]) -> dict[str, Any]:
        for name in record:
            if name not in seen:
                seen[name] = None
                if name not in columns.values():
                    unused.append(name)
        return {ours: cell(record.get(theirs)) for ours, theirs in columns.items()}

    empty = True
    for chunk in read_json_lines(path, pick, list(columns), unused=unused):
        if empty and chunk.table.num_rows:
            mapped(list(seen), columns, required, path.name)
        empty = empty and not (chunk.table.num_rows or chunk.bad)
        yield chunk
    if empty:
        raise DataError(f"{path.name} holds no lines; write or fetch it again")


def cell(value: Any) -> Any:
    """A JSON value as text, or as a list of texts; a list inside a list is a path of levels."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return [" > ".join(map(str, v)) if isinstance(v, list) else str(v) for v in value if v]
    return json.dumps(value, ensure_ascii=False) if isinstance(value, dict) else repr(value)
