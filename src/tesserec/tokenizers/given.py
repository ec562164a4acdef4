"""A code table that was made elsewhere: ingest joined it to item ids (data/given_codes.py)."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from tesserec.artifacts import write_atomic
from tesserec.errors import DataError, UsageError


class Given:
    """Stands in a release for the tokenizer that is not at hand; it can't encode."""

    name = "given"

    def __init__(self, digits: int = 32, codebook_size: int = 256, iterations: int = 0) -> None:
        del iterations  # nothing is learnt
        self.digits = digits
        self.codebook_size = codebook_size

    def fit(self, vectors: np.ndarray, rng: np.random.Generator) -> None:
        """Nothing is learnt."""

    def encode(self, vectors: np.ndarray) -> np.ndarray:
        """Raises UsageError: codes of new items have to come from where the table came from."""
        raise UsageError(
            "tokenizer 'given' is a finished code table and can't encode; use tokenizer.name=opq, "
            "or run again with a file of tokenizer.codes that holds the new items"
        )

    def save(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        info = {"name": self.name, "digits": self.digits, "codebook_size": self.codebook_size}
        write_atomic(folder / "tokenizer.json", json.dumps(info, indent=1))

    @classmethod
    def load(cls, folder: Path) -> Given:
        info = json.loads((folder / "tokenizer.json").read_text())
        return cls(int(info["digits"]), int(info["codebook_size"]))


def given_codes(folder: Path, item_ids: list[str]) -> np.ndarray:
    """Codes [N, m] of these items, from the `codes/` folder of a raw artefact.

    Raises:
        DataError: an item has none.
    """
    codes = np.load(folder / "codes.npy", allow_pickle=False)
    ids = pq.read_table(folder / "item_ids.parquet", columns=["item_id"])["item_id"].to_pylist()
    row_of = {item: row for row, item in enumerate(ids)}
    missing = [item for item in item_ids if item not in row_of]
    if missing:
        raise DataError(
            f"{len(missing)} of {len(item_ids)} items have no codes, the first is {missing[0]!r}; "
            "add their rows to the file of tokenizer.codes, or use tokenizer.name=opq"
        )
    return codes[[row_of[item] for item in item_ids]]
