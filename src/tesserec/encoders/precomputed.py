"""Vectors that were made elsewhere: ingest joined them to item ids (data/vectors.py)."""

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


class Precomputed:
    """Looks vectors up. Saved as shape and hash: the vectors themselves stay in the raw data."""

    name = "precomputed"
    learns = False  # of the items that it is fitted on

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
        """Nothing is learnt; the hash of these items' vectors is taken."""
        digest = hashlib.sha256("\n".join(items["item_id"].to_pylist()).encode())
        digest.update(self.encode(items).data)
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
