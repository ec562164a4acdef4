"""Vectors that were made elsewhere, joined to items by id."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tesserec.artifacts import write_atomic
from tesserec.errors import DataError, UsageError

VECTORS = "vectors.npy"
ITEM_IDS = "item_ids.parquet"


def read_vectors(path: Path, item_ids: Sequence[str]) -> tuple[np.ndarray, list[str]]:
    """Read a user's file of vectors: float32 [n, D] and the item id of each row.

    `.npy`: row i belongs to row i of the items file, `item_ids` being all ids of that file in file
    order, before any row is removed (a later duplicate of an id is dropped). `.parquet`: columns
    `item_id` and `vector` (a list of numbers), in any order.

    Raises:
        UsageError: no such file, or another kind of file.
        DataError: wrong shape, wrong number of rows, a duplicate id, a vector with NaN or infinity.
    """
    if not path.is_file():
        raise UsageError(
            f"there is no file of vectors {path}; set encoder.vectors to an existing one"
        )
    if path.suffix == ".npy":
        vectors, ids = _read_npy(path, item_ids)
    elif path.suffix == ".parquet":
        vectors, ids = _read_parquet(path)
    else:
        raise UsageError(f"encoder.vectors is {path.name!r}; use a .npy or a .parquet file")
    bad = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
    if len(bad):
        raise DataError(
            f"{path}: {len(bad)} vectors hold NaN or infinity, the first is that of item "
            f"{ids[bad[0]]!r}; repair or remove them"
        )
    return vectors, ids


def write_vectors(folder: Path, vectors: np.ndarray, item_ids: Sequence[str]) -> None:
    """Write `vectors.npy` and `item_ids.parquet`, as the raw artefact carries them."""
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / VECTORS, np.ascontiguousarray(vectors, dtype=np.float32), allow_pickle=False)
    pq.write_table(pa.table({"item_id": pa.array(item_ids, pa.string())}), folder / ITEM_IDS)


class Precomputed:
    """Looks vectors up. Saved as shape and hash: the vectors themselves stay in the raw data."""

    name = "precomputed"

    def __init__(self, vectors: np.ndarray | None = None, item_ids: Sequence[str] = ()) -> None:
        self.vectors = vectors
        self.row_of = {item_id: row for row, item_id in enumerate(item_ids)}
        self.dim = 0 if vectors is None else vectors.shape[1]
        self.sha256 = ""  # of the vectors that the release was made of

    @classmethod
    def open(cls, folder: Path) -> Precomputed:
        """The vectors of a raw artefact's `vectors/` folder, mapped, not read."""
        vectors = np.load(folder / VECTORS, mmap_mode="r", allow_pickle=False)
        ids = pq.read_table(folder / ITEM_IDS, columns=["item_id"])["item_id"].to_pylist()
        return cls(vectors, ids)

    def fit(self, items: pa.Table) -> None:
        """Nothing is learnt; the hash of the source is taken."""
        vectors = self._source()
        digest = hashlib.sha256("\n".join(self.row_of).encode())
        digest.update(np.ascontiguousarray(vectors, dtype=np.float32).data)
        self.sha256 = digest.hexdigest()

    def encode(self, items: pa.Table) -> np.ndarray:
        """float32 [N, D].

        Raises:
            DataError: an item has no vector.
        """
        vectors = self._source()
        ids = items["item_id"].to_pylist()
        missing = [item_id for item_id in ids if item_id not in self.row_of]
        if missing:
            raise DataError(
                f"{len(missing)} of {len(ids)} items have no vector, the first is "
                f"{missing[0]!r}; add their rows to the file of encoder.vectors, or set "
                "encoder.name to lsa or sentence, which make vectors of the texts"
            )
        rows = [self.row_of[item_id] for item_id in ids]
        return np.asarray(vectors[rows], dtype=np.float32).reshape(len(ids), self.dim)

    def save(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        info = {"name": self.name, "dim": self.dim, "sha256": self.sha256}
        write_atomic(folder / "encoder.json", json.dumps(info, indent=1))

    @classmethod
    def load(cls, folder: Path) -> Precomputed:
        """The reference that `save` wrote; `attach` gives it vectors to encode with."""
        info = json.loads((folder / "encoder.json").read_text())
        encoder = cls()
        encoder.dim, encoder.sha256 = int(info["dim"]), str(info["sha256"])
        return encoder

    def attach(self, folder: Path) -> None:
        """Use the vectors of another raw artefact's `vectors/` folder (new items).

        Raises:
            DataError: they have another width than those of the release.
        """
        source = Precomputed.open(folder)
        if self.dim and source.dim != self.dim:
            raise DataError(
                f"the vectors of {folder} have {source.dim} columns, the release was made with "
                f"{self.dim}; use vectors of the same model"
            )
        self.vectors, self.row_of, self.dim = source.vectors, source.row_of, source.dim

    def _source(self) -> np.ndarray:
        if self.vectors is None:
            raise UsageError(
                "a precomputed encoder holds no vectors of its own; give it those of the new items "
                "(attach a raw artefact's vectors folder)"
            )
        return self.vectors


def _read_npy(path: Path, item_ids: Sequence[str]) -> tuple[np.ndarray, list[str]]:
    try:
        vectors = np.load(path, allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise DataError(
            f"{path} is not a .npy file of numbers ({error}); write it with numpy.save"
        ) from None
    if vectors.ndim != 2 or not np.issubdtype(vectors.dtype, np.number):
        raise DataError(
            f"{path} holds {vectors.dtype} {list(vectors.shape)}; it takes numbers [items, width]"
        )
    if len(vectors) != len(item_ids):
        raise DataError(
            f"{path} has {len(vectors)} rows, the items file has {len(item_ids)}; row i must "
            "belong to row i of the items file, or use a .parquet keyed by item_id"
        )
    first: dict[str, int] = {}
    for row, item_id in enumerate(item_ids):
        first.setdefault(item_id, row)
    if len(first) < len(item_ids):
        vectors = vectors[list(first.values())]
    return vectors.astype(np.float32), list(first)


def _read_parquet(path: Path) -> tuple[np.ndarray, list[str]]:
    try:
        table = pq.read_table(path)
    except (pa.ArrowInvalid, OSError) as error:
        raise DataError(f"{path} is not a Parquet file ({error})") from None
    lacking = [name for name in ("item_id", "vector") if name not in table.column_names]
    if lacking:
        raise DataError(
            f"{path} has no column {lacking[0]!r} (it has {', '.join(table.column_names)}); "
            "it takes item_id and vector"
        )
    ids = table["item_id"].cast(pa.string()).to_pylist()
    if len(set(ids)) < len(ids) or None in ids:
        seen: set[object] = {None}
        twice = next(i for i in ids if i in seen or seen.add(i))
        raise DataError(f"{path}: item_id {twice!r} is null or occurs twice; keep one row an item")
    rows = table["vector"].to_pylist()
    widths = {0 if row is None else len(row) for row in rows}
    if len(widths) != 1 or 0 in widths:
        odd = next(
            i
            for i, row in zip(ids, rows, strict=True)
            if row is None or len(row) != len(rows[0] or [])
        )
        raise DataError(f"{path}: the vector of item {odd!r} is missing or has another length")
    return np.asarray(rows, dtype=np.float32), ids
