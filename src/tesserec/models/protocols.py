"""The seams between methods; each is a protocol of two to four methods, without behaviour."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa


class Encoder(Protocol):
    """Item content -> vectors."""

    def fit(self, items: pa.Table) -> None: ...
    def encode(self, items: pa.Table) -> np.ndarray: ...  # float32 [N, D], row i = items row i
    def save(self, folder: Path) -> None: ...


class Tokenizer(Protocol):
    """Vectors -> codes; ties go to the lowest code."""

    def fit(self, vectors: np.ndarray, rng: np.random.Generator) -> None: ...  # float32 [N, D]
    def encode(self, vectors: np.ndarray) -> np.ndarray: ...  # uint8/uint16 [N, m]
    def save(self, folder: Path) -> None: ...


class Model(Protocol):
    """Histories -> what a scorer or a decoder needs."""

    def state(
        self, histories: Sequence[np.ndarray]
    ) -> Any: ...  # histories: item rows, oldest first


class Decoder(Protocol):
    """A model's state -> ranked items that exist and are allowed."""

    def rank(self, state: Any, k: int, constraints: Any) -> tuple[np.ndarray, np.ndarray]: ...
