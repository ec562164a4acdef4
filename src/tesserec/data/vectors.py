"""Precomputed item vectors, joined to item ids by the source row before any row is removed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tesserec.data.compute import pc
from tesserec.errors import DataError, UsageError

BLOCK = 16_384


def vectors_file(folder: Path, name: str) -> Path:
    """The path of the vectors, relative to the data's folder.

    Raises:
        UsageError: it is not there, or is neither .npy nor .parquet.
    """
    path = folder / name
    if not path.is_file():
        raise UsageError(f"encoder.vectors is {name!r}; there is no such file in {folder}")
    if path.suffix not in (".npy", ".parquet"):
        raise UsageError(f"encoder.vectors is {name!r}; use a .npy or a .parquet file")
    return path


def join_vectors(
    path: Path, item_ids: pa.StringArray, source_rows: np.ndarray, rows_in_source: int, out: Path
) -> int:
    """Write `vectors.npy` (float32 [n, D]) and `item_ids.parquet` for the kept items; returns D.

    A .npy has one row for each of the `rows_in_source` rows of the items source, kept or not; a
    Parquet file has columns `item_id` and `vector`.

    Raises:
        DataError: another number of rows, an item without a vector or with two, or a value that is
        not finite.
    """
    out.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".npy":
        source, rows = _of_npy(path, rows_in_source), source_rows
    else:
        source, rows = _of_parquet(path, pq.read_table, item_ids)
        missing = item_ids.filter(pa.array(rows < 0))
        if len(missing):
            raise DataError(
                f"{path.name} has no vector for {len(missing)} items, "
                f"{missing.slice(0, 3).to_pylist()} among them"
            )
    result = np.lib.format.open_memmap(
        out / "vectors.npy", mode="w+", dtype=np.float32, shape=(len(rows), source.shape[1])
    )
    for start in range(0, len(rows), BLOCK):
        block = source[rows[start : start + BLOCK]].astype(np.float32)
        wrong = np.flatnonzero(~np.isfinite(block).all(axis=1))
        if len(wrong):
            name = item_ids[start + int(wrong[0])].as_py()
            raise DataError(
                f"{path.name}: the vector of item {name!r} is not finite; encode it again"
            )
        result[start : start + BLOCK] = block
    result.flush()
    pq.write_table(pa.table({"item_id": item_ids}), out / "item_ids.parquet", compression="zstd")
    return source.shape[1]


def find_vectors(
    path: Path, item_ids: pa.StringArray, source_rows: np.ndarray, rows_in_source: int
) -> tuple[np.ndarray, np.ndarray]:
    """float32 [n, D] of some items of a source, and bool [n]: which of them have none.

    Memory follows the items, not the file. A vector that is not finite is none.

    Raises:
        DataError: another number of rows, or an item with two vectors.
    """
    if path.suffix == ".npy":
        found = np.asarray(_of_npy(path, rows_in_source)[source_rows], np.float32)
        return found, _unusable(found)

    def read(path: Path, columns: list[str]) -> pa.Table:
        with pq.ParquetFile(path) as file:
            batches = file.iter_batches(BLOCK, columns=columns)
            parts = [_wanted(pa.Table.from_batches([b]).select(columns), item_ids) for b in batches]
        return pa.concat_tables(parts) if parts else pq.read_table(path, columns=columns)

    source, rows = _of_parquet(path, read, item_ids)
    found = np.full((len(rows), max(source.shape[1], 1)), np.nan, np.float32)
    found[rows >= 0] = source[rows[rows >= 0]]
    return found, _unusable(found)


def _unusable(vectors: np.ndarray) -> np.ndarray:
    return np.asarray(~np.isfinite(vectors).all(axis=1), bool)


def _wanted(table: pa.Table, item_ids: pa.StringArray) -> pa.Table:
    return table.filter(pc.is_in(table["item_id"].cast(pa.string()), value_set=item_ids))


def _of_npy(path: Path, rows_in_source: int) -> np.ndarray:
    try:
        source = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise DataError(
            f"{path.name} is not a .npy array ({error}); write it with numpy.save"
        ) from None
    if source.ndim != 2 or source.dtype.kind != "f":
        raise DataError(
            f"{path.name} holds {source.dtype} {source.shape}; use floats of shape [items, D]"
        )
    if len(source) != rows_in_source:
        raise DataError(
            f"{path.name} has {len(source)} rows, the items source {rows_in_source}; "
            "row i must belong to row i"
        )
    return source


def _of_parquet(
    path: Path, read: Callable[..., pa.Table], item_ids: pa.StringArray
) -> tuple[np.ndarray, np.ndarray]:
    """Vectors float32 [p, D], and the place of each item's among them; -1: it has none."""
    try:
        table = read(path, columns=["item_id", "vector"])
    except (pa.ArrowInvalid, OSError, KeyError) as error:
        raise DataError(
            f"{path.name} lacks item_id or vector, or is no Parquet ({error})"
        ) from None
    if not table.num_rows:
        return np.zeros((0, 0), np.float32), np.full(len(item_ids), -1)
    lengths = pc.unique(pc.list_value_length(table["vector"])).to_pylist()
    if len(lengths) != 1 or not lengths[0]:
        raise DataError(
            f"{path.name}: vectors have the lengths {lengths[:5]}; use one length for all"
        )
    flat = pc.list_flatten(table["vector"]).to_numpy().astype(np.float32)
    ids = table["item_id"].cast(pa.string()).combine_chunks()
    place = pc.index_in(item_ids, value_set=ids)
    counts = pc.value_counts(ids)
    twice = counts.field("values").filter(pc.greater(counts.field("counts"), 1))
    known = twice.filter(pc.is_in(twice, value_set=item_ids))
    if len(known):
        raise DataError(
            f"{path.name} has more than one vector for {len(known)} items, "
            f"{known.slice(0, 3).to_pylist()} among them; keep one row an item"
        )
    place = pc.fill_null(place, -1).to_numpy().astype(np.int64)
    return flat.reshape(len(table), lengths[0]), place
