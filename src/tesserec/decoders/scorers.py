"""What an item scores for a user, by blocks of items: from codes, or from vectors.

A scorer has `items` (N) and `scores(state, start, stop)`, float32 [stop - start, B]. A state that
isn't a tensor needs a scorer that can cut it by users (`take`).
Legend of shapes: N items, m digits, K codes a digit, B users, d width of vectors.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.nn import functional as F

from tesserec.decoders.ranking import users_of
from tesserec.errors import ArtifactError

if TYPE_CHECKING:
    from tesserec.models.protocols import Scorer

LINE = 16  # users that a product of vectors takes together, always as many


class CodeScorer:
    """An item's score is the sum of its m codes' log-probabilities, digits in order, in float32.

    So a score doesn't depend on who else is in the batch.
    """

    def __init__(self, codes: np.ndarray, codebook_size: int) -> None:
        """`codes` is the code table uint8/uint16 [N, m]."""
        self.items, self.digits = codes.shape
        self.codebook_size = codebook_size
        self._codes = torch.from_numpy(np.ascontiguousarray(codes))
        self._offsets = torch.arange(self.digits, dtype=torch.int32) * codebook_size

    def to(self, device: torch.device) -> CodeScorer:
        self._codes, self._offsets = self._codes.to(device), self._offsets.to(device)
        return self

    def scores(self, state: torch.Tensor, start: int, stop: int) -> torch.Tensor:
        """Of states [B, m, K], log-probabilities."""
        # `contiguous` would leave the odd strides of a single user's column, and with them
        # embedding_bag takes a path that is forty times as slow
        table = state.reshape(len(state), -1).t().clone(memory_format=torch.contiguous_format)
        # m bytes an item are kept; the four times as many that the look-up takes are made by blocks
        index = self._codes[start:stop].to(torch.int32) + self._offsets
        return F.embedding_bag(index, table, mode="sum")


class VectorScorer:
    """An item's score is the inner product of its vector and the user's, plus the item's bias."""

    def __init__(self, vectors: torch.Tensor, bias: torch.Tensor | None = None) -> None:
        """Vectors float32 [N, d], bias float32 [N].

        Raises:
            ArtifactError: as many biases as vectors are needed.
        """
        if bias is not None and len(bias) != len(vectors):
            raise ArtifactError(
                f"{len(bias)} biases for {len(vectors)} vectors; one each is needed"
            )
        self.items = len(vectors)
        self._vectors, self._bias = vectors.detach(), None if bias is None else bias.detach()

    def to(self, device: torch.device) -> VectorScorer:
        self._vectors = self._vectors.to(device)
        self._bias = None if self._bias is None else self._bias.to(device)
        return self

    def scores(self, state: torch.Tensor, start: int, stop: int) -> torch.Tensor:
        """Of states [B, d], vectors.

        Users go by lines of 16, the last filled up with zeros: products of other sizes may round
        otherwise, and a score mustn't depend on who else is in the batch. Always in float32, also
        under autocast, as a validation during training is: bfloat16 would tie items by the dozen.
        """
        users = len(state)
        filled = F.pad(state, (0, 0, 0, -users % LINE))
        block = self._vectors[start:stop]
        with torch.autocast(block.device.type, enabled=False):
            lines = [block @ line.float().t() for line in filled.split(LINE)]
        out = torch.cat(lines or [block[:, :0]], dim=1)[:, :users]
        return out if self._bias is None else out + self._bias[start:stop, None]


def take(scorer: Scorer, state: Any, users: list[int]) -> Any:
    """The state of some users, in rising order."""
    if len(users) == users_of(state):
        return state
    cut = getattr(scorer, "take", None)
    return state[users] if cut is None else cut(state, users)
