"""The encoder of a release: item content -> raw vectors -> whitened vectors, in one folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from tesserec.encoders.lsa import LSA
from tesserec.encoders.precomputed import Precomputed
from tesserec.encoders.sentence import Sentence
from tesserec.encoders.whitening import Whitening
from tesserec.errors import ArtifactError

ENCODERS: dict[str, Any] = {"lsa": LSA, "sentence": Sentence, "precomputed": Precomputed}


class ContentEncoder:
    """An encoder and its whitening; the two are versioned together."""

    def __init__(self, encoder: Any, whitening: Whitening) -> None:
        self.encoder = encoder
        self.whitening = whitening

    def fit(
        self,
        items: pa.Table,
        chosen: np.ndarray | None = None,
        raw: np.ndarray | None = None,
    ) -> np.ndarray:
        """Fit both parts and return the raw vectors [N, D] of all items.

        Args:
            chosen: bool [N], the items to learn from, none of them listed after the training cut;
                None: all.
            raw: the raw vectors, if an encoder that learns nothing has made them before.
        """
        known = np.ones(items.num_rows, bool) if chosen is None else chosen
        self.encoder.fit(items.filter(pa.array(known)))
        found = raw if raw is not None else self.encoder.encode(items)
        self.whitening.fit(found[known])
        return found

    def encode(self, items: pa.Table) -> np.ndarray:
        """float32 [N, pca_dim], row i = items row i."""
        if not items.num_rows:
            return np.zeros((0, self.whitening.dim), dtype=np.float32)
        return self.whitening.apply(self.encoder.encode(items))

    def save(self, folder: Path) -> None:
        self.encoder.save(folder)
        self.whitening.save(folder)

    @classmethod
    def load(cls, folder: Path) -> ContentEncoder:
        """What `save` wrote.

        Raises:
            ArtifactError: the folder is no encoder, or of a kind that this version does not know.
        """
        path = folder / "encoder.json"
        if not path.is_file():
            raise ArtifactError(f"{folder} is not an encoder: it has no encoder.json")
        name = json.loads(path.read_text())["name"]
        if name not in ENCODERS:
            raise ArtifactError(
                f"{path}: unknown encoder {name!r}; this version knows {', '.join(ENCODERS)}"
            )
        return cls(ENCODERS[name].load(folder), Whitening.load(folder))
