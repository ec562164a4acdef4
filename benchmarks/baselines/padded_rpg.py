"""RPG in the layout it was released in, in plain torch: the baseline of training speed.

One row a user, padded to 50 positions, and one more row for each training event beyond the 51st,
with one target. Token vectors are gathered and averaged; the m heads run at every position, padding
included; logits at the targets. float32, autograd, AdamW as torch has it. Written from the paper
(Hou et al., KDD 2025, arXiv 2506.05781) and kept as simple as that layout allows.

Legend of shapes: B rows, L positions a row, m digits, K codes a digit, d width, T targets.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from tesserec.models.rpg import RPG, Shape
from tesserec.training.packing import Windows

NONE = -1  # no target here


def released_windows(sequences: Sequence[np.ndarray], positions: int) -> Windows:
    """A user's first positions + 1 events, all targets; then a window ending at each later event,
    of which the last is the only target."""
    events: list[np.ndarray] = []
    skip: list[int] = []
    for sequence in sequences:
        if len(sequence) < 2:
            continue
        events.append(sequence[: positions + 1])
        skip.append(0)
        for end in range(positions + 2, len(sequence) + 1):
            events.append(sequence[end - positions - 1 : end])
            skip.append(positions - 1)
    return Windows(events, np.array(skip, dtype=np.int64))


def padded(data: Windows, chosen: np.ndarray, positions: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Inputs and targets of the chosen windows as item rows, int64 [B, L]; NONE where empty."""
    inputs = np.full((len(chosen), positions), NONE, dtype=np.int64)
    targets = np.full((len(chosen), positions), NONE, dtype=np.int64)
    for row, window in enumerate(chosen):
        events, skip = data.events[window], data.skip[window]
        inputs[row, : len(events) - 1] = events[:-1]
        targets[row, skip : len(events) - 1] = events[skip + 1 :]
    return torch.from_numpy(inputs), torch.from_numpy(targets)


class Layer(nn.Module):
    """Pre-norm attention and feed-forward; dropout on the attention weights."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.norm_1 = nn.LayerNorm(shape.dim, eps=1e-12)
        self.attention = nn.MultiheadAttention(
            shape.dim, shape.heads, dropout=shape.dropout, batch_first=True
        )
        self.norm_2 = nn.LayerNorm(shape.dim, eps=1e-12)
        self.feed_forward = nn.Sequential(
            nn.Linear(shape.dim, shape.ffn), nn.GELU("tanh"), nn.Linear(shape.ffn, shape.dim)
        )

    def forward(self, x_BLd: torch.Tensor, unseen_LL: torch.Tensor) -> torch.Tensor:
        y_BLd = self.norm_1(x_BLd)
        mixed, _ = self.attention(y_BLd, y_BLd, y_BLd, attn_mask=unseen_LL, need_weights=False)
        x_BLd = x_BLd + mixed
        return x_BLd + self.feed_forward(self.norm_2(x_BLd))


class PaddedRPG(nn.Module):
    """History of items, padded on the right -> m distributions at every position."""

    tokens_of: torch.Tensor

    def __init__(self, shape: Shape, codes: np.ndarray) -> None:
        super().__init__()
        self.shape = shape
        m, size = shape.digits, shape.codebook_size
        self.tokens = nn.Embedding(m * size, shape.dim)
        self.positions = nn.Embedding(shape.positions, shape.dim)
        self.dropout = nn.Dropout(shape.dropout)
        self.layers = nn.ModuleList(Layer(shape) for _ in range(shape.layers))
        self.norm = nn.LayerNorm(shape.dim, eps=1e-12)
        self.heads = nn.ModuleList(nn.Linear(shape.dim, shape.dim) for _ in range(m))
        table = torch.from_numpy(codes.astype(np.int64)) + torch.arange(m) * size
        self.register_buffer("tokens_of", table)

    def loss(self, inputs_BL: torch.Tensor, targets_BL: torch.Tensor) -> torch.Tensor:
        """Mean cross-entropy over targets and digits."""
        m, size = self.shape.digits, self.shape.codebook_size
        # Padding stands to the right of everything that has a target: a causal mask hides it.
        vectors = self.tokens(self.tokens_of[inputs_BL.clamp_min(0)]).mean(dim=-2)
        length = inputs_BL.shape[1]
        x_BLd = self.dropout(vectors + self.positions.weight[:length])
        unseen_LL = torch.ones(length, length, dtype=torch.bool).triu(1)
        for layer in self.layers:
            x_BLd = layer(x_BLd, unseen_LL)
        s_BLd = self.norm(x_BLd)
        h_BLmd = torch.stack([s_BLd + F.silu(head(s_BLd)) for head in self.heads], dim=-2)

        wanted = targets_BL != NONE
        h_Tmd = F.normalize(h_BLmd[wanted], dim=-1)
        unit_mKd = F.normalize(self.tokens.weight, dim=-1).view(m, size, -1)
        codes_Tm = self.tokens_of[targets_BL[wanted]] - torch.arange(m) * size
        losses = [
            F.cross_entropy(h_Tmd[:, j] @ unit_mKd[j].T / self.shape.temperature, codes_Tm[:, j])
            for j in range(m)
        ]
        return torch.stack(losses).mean()

    @torch.no_grad()
    def take_weights(self, model: RPG) -> None:
        """Become the same function as `model`."""
        self.tokens.weight.copy_(model.tokens.flatten(0, 1))
        self.positions.weight.copy_(model.backbone.positions)
        for head, weight, bias in zip(self.heads, model.head_weight, model.head_bias, strict=True):
            head.load_state_dict({"weight": weight, "bias": bias})
        for mine, other in zip(self.layers, model.backbone.blocks, strict=True):
            ours = other.state_dict()
            mine.load_state_dict(
                {
                    **{k: v for k, v in ours.items() if k.startswith("norm")},
                    "attention.in_proj_weight": ours["qkv.weight"],
                    "attention.in_proj_bias": ours["qkv.bias"],
                    "attention.out_proj.weight": ours["project.weight"],
                    "attention.out_proj.bias": ours["project.bias"],
                    "feed_forward.0.weight": ours["up.weight"],
                    "feed_forward.0.bias": ours["up.bias"],
                    "feed_forward.2.weight": ours["down.weight"],
                    "feed_forward.2.bias": ours["down.bias"],
                }
            )
        self.norm.load_state_dict(model.backbone.norm.state_dict())


def train(
    model: PaddedRPG,
    data: Windows,
    *,
    batch: int,
    seed: int,
    rate: Callable[[int], float],
    clip_norm: float,
    on_step: Callable[[float], None],
) -> None:
    """One epoch, in the order that `tesserec.training` takes; `on_step` gets each step's loss."""
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=0.0)
    order = np.random.default_rng([seed, 0]).permutation(len(data.events))
    for step, first in enumerate(range(0, len(order), batch)):
        inputs, targets = padded(data, order[first : first + batch], model.shape.positions)
        for group in optimizer.param_groups:
            group["lr"] = rate(step)
        optimizer.zero_grad()
        loss = model.loss(inputs, targets)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), clip_norm)
        optimizer.step()
        on_step(float(loss.detach()))
