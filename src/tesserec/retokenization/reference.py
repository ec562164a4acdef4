"""The reference of drift and novelty: old items that nothing which sees them was fitted on.

On items that a codebook was fitted on its error is too low by a fifth, and its codes are balanced
by construction: compared with those, new items look novel where nothing has changed
(docs/retokenization.md). An encoder that learns does the same to vectors. So a second encoder and a
second tokenizer of the same settings, the reference, are fitted without a tenth of the items, and
held-out old items and new ones are compared as these see them. What makes the codes that are served
keeps all of its items.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tesserec.artifacts import write_atomic
from tesserec.errors import ArtifactError
from tesserec.retokenization import novelty
from tesserec.tokenizers import load_tokenizer

FOLDER = "reference"  # below a release's tokenizer/
HELD_OUT, ITEM_IDS = "held_out.safetensors", "held_out.parquet"
REFERENCE = "reference.npy"  # of an artefact: vectors by the reference encoder
SHARE = 10  # one item of so many is held out
LEAST = 10  # held-out items without which there is no reference


@dataclass(frozen=True)
class Reference:
    """A tokenizer, and what it makes of the items that it never saw.

    All vectors are those of the reference encoder.
    """

    tokenizer: Any
    item_ids: list[str]  # of the held-out items
    codes: np.ndarray  # [h, m]
    errors: np.ndarray  # float32 [h], squared distance of a vector to what its code stands for

    @property
    def threshold(self) -> float:
        """The error that one held-out item of a hundred exceeds."""
        return novelty.threshold(self.errors)

    def errors_of(self, vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Codes [n, m] and errors float32 [n] of other vectors."""
        codes = self.tokenizer.encode(vectors)
        return codes, self.tokenizer.errors(vectors, codes)

    def save(self, folder: Path) -> None:
        from safetensors.numpy import save_file

        self.tokenizer.save(folder)
        save_file({"codes": self.codes, "errors": self.errors}, folder / HELD_OUT)
        pq.write_table(pa.table({"item_id": pa.array(self.item_ids)}), folder / ITEM_IDS)
        info = {"held_out": len(self.errors), "threshold": self.threshold}
        write_atomic(folder / "reference.json", json.dumps(info, indent=1))

    @classmethod
    def load(cls, folder: Path) -> Reference | None:
        """The reference of a release's `tokenizer/` folder; None if it was made without one.

        Raises:
            ArtifactError: its files are not those that `save` wrote.
        """
        from safetensors.numpy import load_file

        home = folder / FOLDER
        if not (home / HELD_OUT).is_file():
            return None
        arrays = load_file(home / HELD_OUT)
        ids = pq.read_table(home / ITEM_IDS)["item_id"].to_pylist()
        if not len(ids) == len(arrays["codes"]) == len(arrays["errors"]):
            raise ArtifactError(
                f"{home} has {len(ids)} items, {len(arrays['codes'])} codes and "
                f"{len(arrays['errors'])} errors; make the release again"
            )
        return cls(load_tokenizer(home), ids, arrays["codes"], arrays["errors"])


def held_out(item_ids: Sequence[str]) -> np.ndarray:
    """bool [n]: the items that are held out, by a hash of their ids."""
    digests = (hashlib.blake2b(item.encode(), digest_size=4).digest() for item in item_ids)
    return np.array([int.from_bytes(d, "big") % SHARE == 0 for d in digests], bool)


def make_reference(
    tokenizer: Any, item_ids: Sequence[str], vectors: np.ndarray
) -> Reference | None:
    """The reference of a fitted tokenizer and vectors [h, D] of items that it wasn't fitted on.

    None with fewer than ten of them, or for a tokenizer that can't tell what a code stands for.
    """
    if len(vectors) < LEAST or not hasattr(tokenizer, "decode"):
        return None
    codes = tokenizer.encode(vectors)
    return Reference(tokenizer, list(item_ids), codes, tokenizer.errors(vectors, codes))
