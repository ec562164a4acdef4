"""A trained model as it answers requests on a CPU: the same function, with less work.

* Weights are laid out once for oneDNN, which takes the widest instructions of any processor; the
  library behind `F.linear` doesn't on those of AMD, and is less than half as fast there.
* The last layer computes what follows its attention only where an answer is read: one position a
  history instead of all.
* Sizes are rounded up to a few buckets. oneDNN compiles a kernel for each size that it meets, so
  `warm` meets them all before the first request does.

Legend of shapes: R packed rows, W positions a row, d width, B histories, m digits, K codes a digit.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from tesserec.models.backbone import Backbone, Block
from tesserec.models.packed import ROW_WIDTH, Packed

FINE = 8  # rows and histories up to here have a bucket each, then every fourth number has
COARSE = 4
WARM_ROWS = 24  # a batch of 64 histories seldom takes more
WARM_HISTORIES = 64
LONGEST = 50  # items of a history


class Linear:
    """x -> activation(x W^T + b), x float32 [n, in], with W packed for this processor."""

    def __init__(
        self, weight: torch.Tensor, bias: torch.Tensor | None, activation: str = "none"
    ) -> None:
        self._bias = None if bias is None else bias.detach()
        self._activation = activation
        self._weight = weight.detach().contiguous()
        self._packed = _packed(self._weight)

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        if self._packed is None:
            return ACTIVATIONS[self._activation](F.linear(x, self._weight, self._bias))
        name, how = FUSED[self._activation]
        return torch.ops.mkldnn._linear_pointwise(x, self._packed, self._bias, name, [], how)


ACTIVATIONS = {
    "none": lambda x: x,
    "silu": F.silu,
    "gelu": lambda x: F.gelu(x, approximate="tanh"),
}
FUSED = {"none": ("none", ""), "silu": ("swish", ""), "gelu": ("gelu", "tanh")}


def _packed(weight: torch.Tensor) -> torch.Tensor | None:
    """The weight as oneDNN wants it; None where this build of torch has no oneDNN."""
    if not torch.backends.mkldnn.is_available():
        return None
    return torch.ops.mkldnn._reorder_linear_weight(weight, None)


class FrozenBackbone:
    """A `Backbone` that gives one position of each history."""

    def __init__(self, backbone: Backbone) -> None:
        self._positions = backbone.positions.detach()
        self._norm = backbone.norm
        blocks = [block for block in backbone.blocks if isinstance(block, Block)]
        self._layers = [_Layer(block) for block in blocks]

    @torch.autocast("cpu", enabled=False)  # a validation may come from within a bfloat16 training
    def last(self, vectors_RWd: torch.Tensor, packed: Packed, at: torch.Tensor) -> torch.Tensor:
        """[B, d] at the flat positions `at` (int64 [B]) of item vectors [R, W, d]."""
        rows, width, dim = vectors_RWd.shape
        mask = packed.mask()
        x = (vectors_RWd + F.embedding(packed.positions, self._positions)).view(-1, dim)
        for place, layer in enumerate(self._layers):
            mixed = layer.attend(x, mask, rows, width)
            if place == len(self._layers) - 1:
                x, mixed = x[at], mixed[at]
            x = layer.rest(x, mixed)
        return self._norm(x)


class _Layer:
    def __init__(self, block: Block) -> None:
        self._heads = block.heads
        self._norms = block.norm_1, block.norm_2
        self._qkv = Linear(block.qkv.weight, block.qkv.bias)
        self._project = Linear(block.project.weight, block.project.bias)
        self._up = Linear(block.up.weight, block.up.bias, "gelu")
        self._down = Linear(block.down.weight, block.down.bias)

    def attend(self, x: torch.Tensor, mask: torch.Tensor, rows: int, width: int) -> torch.Tensor:
        """[R * W, d], before the projection."""
        dim = x.shape[1]
        qkv = self._qkv(self._norms[0](x)).view(rows, width, 3, self._heads, dim // self._heads)
        query, key, value = qkv.permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        return mixed.transpose(1, 2).reshape(rows * width, dim)

    def rest(self, x: torch.Tensor, mixed: torch.Tensor) -> torch.Tensor:
        x = x + self._project(mixed)
        return x + self._down(self._up(self._norms[1](x)))


class FrozenDigits:
    """RPG's heads and cosine logits: hidden [B, d] -> log-probabilities [B, m, K]."""

    def __init__(
        self,
        tokens: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor,
        temperature: float,
    ) -> None:
        """Tokens [m, K, d], heads [m, d, d] and biases [m, d] of a trained RPG."""
        self._shape = tokens.shape
        self._temperature = temperature
        digits, _, dim = tokens.shape
        self._heads = Linear(weight.reshape(digits * dim, dim), bias.reshape(-1), "silu")
        unit = F.normalize(tokens.detach(), dim=-1) / temperature
        self._logits = [Linear(block, None) for block in unit]

    @torch.autocast("cpu", enabled=False)
    def __call__(self, s_Bd: torch.Tensor) -> torch.Tensor:
        digits, size, dim = self._shape
        h_Bmd = self._heads(s_Bd).view(-1, digits, dim).add_(s_Bd[:, None])
        h_mBd = F.normalize(h_Bmd, dim=-1).transpose(0, 1).contiguous()
        out = torch.empty((len(s_Bd), digits, size))
        for digit, logits in enumerate(self._logits):
            out[:, digit] = logits(h_mBd[digit])
        return torch.log_softmax(out, dim=-1)


def bucket(number: int) -> int:
    """The size that this many rows or histories are computed as."""
    return number if number <= FINE else -(-number // COARSE) * COARSE


def padded(packed: Packed, at: torch.Tensor) -> tuple[Packed, torch.Tensor]:
    """The same with rows and histories up to their buckets; what is added means nothing."""
    rows, width = packed.items.shape
    wide = min(-(-width // FINE) * FINE, ROW_WIDTH)
    right, below = max(wide - width, 0), bucket(rows) - rows
    more = (0, right, 0, below)
    grown = Packed(
        F.pad(packed.items, more),
        F.pad(packed.positions, more),
        F.pad(packed.segments, more, value=-1),
    )
    moved = torch.div(at, width, rounding_mode="floor") * (width + right) + at % width
    return grown, F.pad(moved, (0, bucket(len(at)) - len(at)))


def sizes(largest: int) -> list[int]:
    """The buckets up to `largest`."""
    return sorted({bucket(number) for number in range(1, largest + 1)})


def warm_up(state: Callable[[list[np.ndarray]], Any]) -> None:
    """Ask for every size that requests bring, so that its kernels are there."""
    item = np.zeros(LONGEST, dtype=np.int64)
    for length in range(FINE, LONGEST + 1, FINE):
        state([item[:length]])
    for rows in sizes(WARM_ROWS):
        state([item] * rows)
    for histories in sizes(WARM_HISTORIES):
        state([item[:1]] * histories)
