"""Heads, cosine logits and cross-entropy of a block of RPG digits, with the gradient by hand.

Most of a training step is spent here. By hand the [J, T, K] logits are walked less often than by
autograd, and the gradient goes straight into the parameters' own buffers: a fifth less time a step
(docs/log.md). A test holds it against autograd.

Legend of shapes: T targets, J digits of the block, K codes a digit, d width.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.nn import functional as F

TINY = 1e-12


def block_logits(
    s_Td: torch.Tensor,
    tokens: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor,
    temperature: float,
) -> torch.Tensor:
    """Cosine / temperature, [J, T, K]; tokens [J, K, d], heads [J, d, d], biases [J, d]."""
    s_JTd = s_Td.expand(len(tokens), *s_Td.shape)
    h_JTd = s_JTd + F.silu(torch.baddbmm(bias[:, None], s_JTd, weight.transpose(1, 2)))
    unit = F.normalize(tokens, dim=-1)
    raw = torch.bmm(h_JTd, unit.transpose(1, 2)).float()
    # dividing [J, T, K] by the norm of h is cheaper than dividing h [J, T, d]
    norm = torch.linalg.vector_norm(h_JTd, dim=-1, keepdim=True, dtype=torch.float32)
    return raw / (norm.clamp_min(TINY) * temperature)


@dataclass(frozen=True)
class Forward:
    """What `block_forward` leaves for `block_backward`."""

    log_p: torch.Tensor  # float32 [J, T, K]
    u_JTd: torch.Tensor  # before SiLU, in s's type
    h_JTd: torch.Tensor  # after the heads, in s's type
    unit: torch.Tensor  # float32 [J, K, d], tokens of length 1
    length: torch.Tensor  # float32 [J, K, 1], their lengths
    inverse: torch.Tensor  # float32 [J, T, 1], 1 / length of h
    weight: torch.Tensor  # [J, d, d], in s's type


@torch.no_grad()
def block_forward(
    s_Td: torch.Tensor,
    parameters: tuple[torch.Tensor, torch.Tensor, torch.Tensor],
    temperature: float,
) -> Forward:
    """Log-probabilities of a block of digits. Matrix products are in s's type.

    Args:
        parameters: tokens [J, K, d], weight [J, d, d] and bias [J, d], float32.
    """
    kind = s_Td.dtype
    tokens, weight, bias = parameters
    weight = weight.to(kind)
    s_JTd = s_Td.expand(len(tokens), *s_Td.shape)
    u_JTd = torch.baddbmm(bias[:, None].to(kind), s_JTd, weight.transpose(1, 2))
    h_JTd = F.silu(u_JTd).add_(s_JTd)
    length = torch.linalg.vector_norm(tokens, dim=-1, keepdim=True).clamp_min_(TINY)
    unit = tokens / length
    norm = torch.linalg.vector_norm(h_JTd, dim=-1, keepdim=True, dtype=torch.float32)
    inverse = norm.clamp_min_(TINY).reciprocal_()
    z_JTK = torch.bmm(h_JTd, unit.to(kind).transpose(1, 2)).float().mul_(inverse / temperature)
    return Forward(F.log_softmax(z_JTK, dim=-1), u_JTd, h_JTd, unit, length, inverse, weight)


@torch.no_grad()
def block_backward(
    s_Td: torch.Tensor,
    done: Forward,
    gradients: tuple[torch.Tensor, torch.Tensor, torch.Tensor],
    ds_Td: torch.Tensor,
    codes_JT: torch.Tensor,
    *,
    temperature: float,
    smoothing: float,
    scale: float,
    d_log_p: torch.Tensor | None = None,
) -> torch.Tensor:
    """Loss of a block; adds its gradients to those given.

    Args:
        gradients: of tokens [J, K, d], weight [J, d, d] and bias [J, d].
        ds_Td: float32 gradient of s.
        codes_JT: int64, the right codes.
        scale: what the summed cross-entropy is multiplied by.
        d_log_p: gradient of the log-probabilities by another loss, [J, T, K].
    """
    kind, unit, h_JTd = s_Td.dtype, done.unit, done.h_JTd
    s_JTd = s_Td.expand(len(unit), *s_Td.shape)
    log_p, target, size = done.log_p, codes_JT[..., None], unit.shape[1]
    loss = -(1 - smoothing) * log_p.gather(-1, target).sum()
    if smoothing:
        loss -= smoothing / size * log_p.sum()

    p = torch.exp(log_p)
    dz = torch.sub(p, smoothing / size) if smoothing or d_log_p is not None else p
    dz.scatter_add_(-1, target, torch.full_like(target, smoothing - 1, dtype=dz.dtype)).mul_(scale)
    if d_log_p is not None:
        dz.add_(d_log_p).addcmul_(p, d_log_p.sum(-1, keepdim=True), value=-1)
    # the gradient of the logits sums to 0, so log p stands for z: they differ by a constant
    through_norm = torch.linalg.vecdot(dz, log_p)[..., None].mul_(done.inverse).mul_(done.inverse)
    raw = dz.mul_(done.inverse * (1.0 / temperature)).to(kind)
    dh = torch.bmm(raw, unit.to(kind))
    dh.addcmul_(h_JTd, through_norm.neg_().to(kind))
    du = torch.ops.aten.silu_backward(dh, done.u_JTd)
    for part in dh.baddbmm_(du, done.weight):  # a sum over J of bfloat16 takes five times as long
        ds_Td.add_(part)

    d_unit = torch.bmm(raw.transpose(1, 2), h_JTd).float()
    d_unit.addcmul_(unit, torch.linalg.vecdot(unit, d_unit)[..., None], value=-1)
    gradients[0].add_(d_unit.div_(done.length))
    gradients[1].add_(torch.bmm(du.transpose(1, 2), s_JTd))
    gradients[2].add_(du.sum(1))
    return loss * scale
