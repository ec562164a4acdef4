"""Fusion: a model of content and a model of identity score each item in one request.

The two err on different users: identities remember transitions, codes carry over to items with few
events (docs/models.md). Each part's scores become log-probabilities over the whole catalogue, and
an item's score is their weighted mean. Of an item that the identity model was not trained on, the
content model's alone.

Legend of shapes: N items, B users, n items of a block.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from tesserec.decoders.scorers import CodeScorer
from tesserec.errors import ArtifactError
from tesserec.models import PARTS
from tesserec.models.protocols import Scorer

SHAPE = "fusion.json"
BLOCK = 16_384  # items scored at once
LINE = 16  # users whose totals are summed together, always as many

# content's state, identity's state, totals [B, 2] and weights [B]
State = tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]


@dataclass(frozen=True, kw_only=True)
class Blend:
    """How two parts are mixed; fitted on validation (models/fusion_fit.py)."""

    temperatures: tuple[float, float]  # of content and identity: scores are divided by them
    bounds: tuple[int, ...]  # lengths of history at which the next weight begins
    weights: tuple[float, ...]  # of identity, from 0 to 1; one more than bounds

    def weights_of(self, lengths: np.ndarray) -> np.ndarray:
        """float32 [B], for histories with so many items that the identity model knows."""
        found = np.asarray(self.weights, np.float32)[np.searchsorted(self.bounds, lengths, "right")]
        return np.where(lengths > 0, found, np.float32(0))


class FusionScorer:
    """(1 - w) log p(item | content) + w log p(item | identity), or the first alone."""

    def __init__(
        self,
        content: Scorer,
        identity: Scorer,
        known: np.ndarray,
        temperatures: tuple[float, float],
    ) -> None:
        """`known` is bool [N]: the items that the identity model was trained on."""
        self.items = len(known)
        self.parts = (content, identity)
        self.temperatures = temperatures
        self.known = torch.from_numpy(known)[:, None]

    def to(self, device: torch.device) -> FusionScorer:
        for part in self.parts:
            move = getattr(part, "to", None)
            if move is not None:
                move(device)
        self.known = self.known.to(device)
        return self

    def scores(self, state: State, start: int, stop: int) -> torch.Tensor:
        content, identity = self.logs(state, start, stop)
        return mix(content, identity, state[3], self.known[start:stop])

    def logs(self, state: State, start: int, stop: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Log-probabilities [n, B] of both parts; -inf where identity knows nothing of an item."""
        content, identity = self.raw(state, start, stop)
        totals = state[2]
        return (
            content / self.temperatures[0] - totals[:, 0],
            identity / self.temperatures[1] - totals[:, 1],
        )

    def raw(self, state: State, start: int, stop: int) -> tuple[torch.Tensor, torch.Tensor]:
        """The parts' own scores [n, B]; -inf as in `logs`."""
        content, identity = (
            part.scores(state[i], start, stop) for i, part in enumerate(self.parts)
        )
        return content, identity.masked_fill(~self.known[start:stop], -torch.inf)

    def totals(self, content: torch.Tensor, identity: torch.Tensor) -> torch.Tensor:
        """Log of the sum of exp(score / temperature) over all items, [B, 2]: the first pass."""
        out = content.new_empty((len(content), 2))
        for first in range(0, len(content), LINE):
            part = slice(first, first + LINE)
            state = (content[part], identity[part], out[part], out[part, 0])
            blocks = [
                torch.stack([self._sum(i, s) for i, s in enumerate(self.raw(state, start, stop))])
                for start in range(0, self.items, BLOCK)
                for stop in [min(start + BLOCK, self.items)]
            ]
            out[part] = torch.logsumexp(torch.stack(blocks), dim=0).t()
        return out

    def _sum(self, part: int, scores: torch.Tensor) -> torch.Tensor:
        """[B] of a block's scores [n, B]."""
        # always LINE users: how a sum is rounded mustn't depend on who else is in the batch
        filled = F.pad(scores / self.temperatures[part], (0, LINE - scores.shape[1]))
        return torch.logsumexp(filled.t().contiguous(), dim=1)[: scores.shape[1]]

    def take(self, state: State, users: list[int]) -> State:
        content, identity, totals, weights = state
        return content[users], identity[users], totals[users], weights[users]


def mix(
    content: torch.Tensor, identity: torch.Tensor, weights: torch.Tensor, known: torch.Tensor
) -> torch.Tensor:
    """The scores of log-probabilities [n, B] at weights [B]; `known` is bool [n, 1]."""
    # lerp is exact at weights 0 and 1
    return torch.where(known, content.lerp(identity, weights), content)


class Fusion(nn.Module):
    """A content model, an identity model, and how they are mixed."""

    name: ClassVar[str] = "fusion"
    needs_codes: ClassVar[bool] = True

    def __init__(self, content: Any, identity: Any, codes: np.ndarray, blend: Blend) -> None:
        """`codes` is the content model's code table [N, m]."""
        super().__init__()
        self.content, self.identity, self.blend = content, identity, blend
        if identity.items != len(codes):
            raise ArtifactError(
                f"the identity model is for {identity.items} items, the code table has "
                f"{len(codes)} rows; they belong to different releases"
            )
        self._scorer = FusionScorer(
            CodeScorer(codes, content.shape.codebook_size),
            identity.scorer(),
            identity.known(),
            blend.temperatures,
        )

    def scorer(self) -> FusionScorer:
        return self._scorer

    def named_parts(self) -> dict[str, Any]:
        return dict(zip(PARTS[self.name], (self.content, self.identity), strict=True))

    @torch.inference_mode()
    def state(self, histories: Sequence[np.ndarray]) -> State:
        """Of histories as item rows, oldest first; one pass over all items for the totals.

        Raises:
            TesserecError: a history is empty; there is nothing to predict from.
        """
        content, identity = self.content.state(histories), self.identity.state(histories)
        self._scorer.to(content.device)
        weights = torch.from_numpy(self.blend.weights_of(self.lengths(histories)))
        return content, identity, self._scorer.totals(content, identity), weights.to(content.device)

    def freeze(self) -> None:
        """See `RPG.freeze`."""
        self.content.freeze()
        self.identity.freeze()

    def warm(self) -> None:
        """See `RPG.warm`."""
        self.content.warm()
        self.identity.warm()

    def lengths(self, histories: Sequence[np.ndarray]) -> np.ndarray:
        """int64 [B]: the items of each history that the identity model knows."""
        known = self.identity.known()
        return np.array([int(known[h].sum()) for h in histories], dtype=np.int64)

    def save(self, folder: Path) -> None:
        """Write the blend; the parts have folders of their own."""
        folder.mkdir(parents=True, exist_ok=True)
        fields = {"format": 1, "model": self.name, "blend": asdict(self.blend)}
        (folder / SHAPE).write_text(json.dumps(fields, indent=1) + "\n")

    @classmethod
    def read(cls, shape: Path, parts: Mapping[str, Any], codes: np.ndarray) -> Fusion:
        """Of the saved blend and the parts that it mixes.

        Raises:
            ArtifactError: the file is missing or damaged.
        """
        try:
            fields = json.loads(shape.read_text())["blend"]
            blend = Blend(**{k: tuple(v) for k, v in fields.items()})
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise ArtifactError(f"{shape} is no readable blend of a fusion: {error}") from None
        content, identity = (parts[name] for name in PARTS[cls.name])
        return cls(content, identity, codes, blend)
