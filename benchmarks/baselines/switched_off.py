"""RPG's training step with one improvement taken away, each a model for the ordinary loop."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from tesserec.models.packed import Batch, Packed
from tesserec.models.rpg import RPG


def unpacked(batch: Batch, positions: int) -> Batch:
    """The same histories, each alone in a row of `positions`."""
    segments, items, within = (
        t.flatten() for t in (batch.inputs.segments, batch.inputs.items, batch.inputs.positions)
    )
    there = segments >= 0
    rows = int(segments.max()) + 1
    at = segments.long() * positions + within

    def spread(values: torch.Tensor, empty: int) -> torch.Tensor:
        out = torch.full((rows * positions,), empty, dtype=values.dtype)
        out[at[there]] = values[there]
        return out.view(rows, positions)

    inputs = Packed(spread(items, 0), spread(within, 0), spread(segments, -1))
    return Batch(inputs, at[batch.target_at], batch.target_items)


class Unpacked(RPG):
    """Every history padded to 50."""

    def backward(self, batch: Batch, smoothing: float = 0.0, *, bf16: bool = False) -> torch.Tensor:
        return super().backward(unpacked(batch, self.shape.positions), smoothing, bf16=bf16)


class Autograd(RPG):
    """All digits in one graph, gradients by torch."""

    def backward(self, batch: Batch, smoothing: float = 0.0, *, bf16: bool = False) -> torch.Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
            loss = self.loss(batch, smoothing)
        loss.backward()
        return loss.detach()


class HeadsEverywhere(RPG):
    """Heads at every position of the packed rows, logits at the targets; gradients by torch."""

    def loss(self, batch: Batch, smoothing: float = 0.0) -> torch.Tensor:
        s_Pd = self.hidden(batch.inputs).flatten(0, 1)
        codes_mT = self.codes[batch.target_items].t().long()
        h_mPd = s_Pd + F.silu(
            torch.baddbmm(
                self.head_bias[:, None],
                s_Pd.expand(self.shape.digits, *s_Pd.shape),
                self.head_weight.transpose(1, 2),
            )
        )
        h_mTd = F.normalize(h_mPd[:, batch.target_at], dim=-1)
        unit = F.normalize(self.tokens, dim=-1)
        logits = torch.bmm(h_mTd, unit.transpose(1, 2)).float() / self.shape.temperature
        return F.cross_entropy(logits.flatten(0, 1), codes_mT.flatten(), label_smoothing=smoothing)

    backward = Autograd.backward


class PaddedHeadsEverywhere(HeadsEverywhere):
    """Heads at every position of rows padded to 50."""

    def backward(self, batch: Batch, smoothing: float = 0.0, *, bf16: bool = False) -> torch.Tensor:
        return super().backward(unpacked(batch, self.shape.positions), smoothing, bf16=bf16)
