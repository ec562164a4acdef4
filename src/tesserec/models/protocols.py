"""The seams between methods; each is a protocol of two to four methods, without behaviour."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import pyarrow as pa


@runtime_checkable
class Encoder(Protocol):
    """Item content -> vectors."""

    def fit(self, items: pa.Table) -> None: ...

    def encode(self, items: pa.Table) -> np.ndarray:
        """float32 [N, D]; row i is that of items row i."""
        ...

    def save(self, folder: Path) -> None: ...


@runtime_checkable
class Tokenizer(Protocol):
    """Vectors -> codes; ties go to the lowest code."""

    def fit(self, vectors: np.ndarray, rng: np.random.Generator) -> None: ...

    def encode(self, vectors: np.ndarray) -> np.ndarray:
        """Codes of vectors float32 [N, D]: uint8 or uint16 [N, m]."""
        ...

    def save(self, folder: Path) -> None: ...


@runtime_checkable
class Table(Protocol):
    """Item -> codes; append-only, rows never move."""

    def codes_of(self, item_ids: Sequence[str]) -> np.ndarray: ...
    def items_of(self, codes: np.ndarray) -> list[list[str]]: ...
    def append(self, item_ids: Sequence[str], codes: np.ndarray) -> np.ndarray: ...


@runtime_checkable
class Model(Protocol):
    """Histories -> what its scorer or decoder needs.

    A model that isn't decoded by its codes alone also has `scorer() -> Scorer`.
    """

    def state(self, histories: Sequence[np.ndarray]) -> Any:
        """Of histories as item rows, oldest first; one entry of the state a history.

        A tensor [B, ...], or a tuple of such tensors.
        """
        ...

    def save(self, folder: Path) -> None: ...


@runtime_checkable
class Scorer(Protocol):
    """What an item scores for a user, by blocks of items: never [B, N] for a large N.

    One whose states aren't tensors cuts them by users itself: `take(state, users)`, for users in
    rising order.
    """

    items: int  # rows

    def scores(self, state: Any, start: int, stop: int) -> Any:
        """float32 [stop - start, B] of the item rows from start to before stop."""
        ...


@runtime_checkable
class Decoder(Protocol):
    """A model's state -> ranked items that exist and are allowed."""

    def rank(self, state: Any, k: int, constraints: Any) -> tuple[np.ndarray, np.ndarray]:
        """Rows int64 [B, k], padded with -1, and scores float32 [B, k]."""
        ...


@runtime_checkable
class Recommends(Protocol):
    """The only thing that serving and evaluation know."""

    def recommend(
        self, histories: Sequence[Sequence[str]], k: int, constraints: Any = None
    ) -> tuple[list[list[str]], list[np.ndarray]]: ...
