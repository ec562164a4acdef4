"""A small causal Transformer of the GPT-2 kind (pre-norm, tanh GELU, learned positions).

Legend of shapes: R rows, W positions a row, d width.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

EPSILON = 1e-12  # of the layer norms, as released
INIT_STD = 0.02


class Block(nn.Module):
    """Attention and feed-forward, each on a normalised copy, added to the stream."""

    def __init__(self, dim: int, heads: int, ffn: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.dropout = dropout  # on attention weights only; the residual branches have none
        self.norm_1 = nn.LayerNorm(dim, eps=EPSILON)
        self.qkv = nn.Linear(dim, 3 * dim)
        self.project = nn.Linear(dim, dim)
        self.norm_2 = nn.LayerNorm(dim, eps=EPSILON)
        self.up = nn.Linear(dim, ffn)
        self.down = nn.Linear(ffn, dim)

    def forward(self, x_RWd: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        rows, width, dim = x_RWd.shape
        qkv = self.qkv(self.norm_1(x_RWd)).view(rows, width, 3, self.heads, dim // self.heads)
        query, key, value = qkv.permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(
            query, key, value, attn_mask=mask, dropout_p=self.dropout if self.training else 0.0
        )
        x_RWd = x_RWd + self.project(mixed.transpose(1, 2).reshape(rows, width, dim))
        return x_RWd + self.down(F.gelu(self.up(self.norm_2(x_RWd)), approximate="tanh"))


class Backbone(nn.Module):
    """Learned positions, `layers` blocks, a final norm."""

    def __init__(
        self, *, dim: int, layers: int, heads: int, ffn: int, positions: int, dropout: float
    ) -> None:
        super().__init__()
        self.dropout = dropout
        self.positions = nn.Parameter(torch.empty(positions, dim))
        self.blocks = nn.ModuleList(Block(dim, heads, ffn, dropout) for _ in range(layers))
        self.norm = nn.LayerNorm(dim, eps=EPSILON)

    def initialise(self, generator: torch.Generator) -> None:
        """Normal weights, zero biases; a branch's last layer is scaled by depth, as in GPT-2."""
        nn.init.normal_(self.positions, std=INIT_STD, generator=generator)
        for name, parameter in self.blocks.named_parameters():
            if name.endswith("bias"):
                nn.init.zeros_(parameter)
            elif parameter.ndim == 2:
                last = name.endswith(("project.weight", "down.weight"))
                std = INIT_STD / (2 * len(self.blocks)) ** 0.5 if last else INIT_STD
                nn.init.normal_(parameter, std=std, generator=generator)

    def forward(
        self, x_RWd: torch.Tensor, positions_RW: torch.Tensor, mask: torch.Tensor
    ) -> torch.Tensor:
        # the gradient of an embedding sums in a fixed order; that of plain indexing need not
        x_RWd = x_RWd + F.embedding(positions_RW, self.positions)
        x_RWd = F.dropout(x_RWd, self.dropout, self.training)
        for block in self.blocks:
            x_RWd = block(x_RWd, mask)
        return self.norm(x_RWd)
