"""Heads, cosine logits and cross-entropy of a block of RPG digits, with the gradient by hand.

Most of a training step is spent here. By hand the [J, T, K] logits are walked less often than by
autograd, and the gradient goes straight into the parameters' own buffers: a fifth less time a step
(docs/log.md). A test holds it against autograd.

Legend of shapes: T targets, J digits of the block, K codes a digit, d width.
"""

from __future__ import annotations

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


@torch.no_grad()
def block_backward(
    s_Td: torch.Tensor,
    parameters: tuple[torch.Tensor, torch.Tensor, torch.Tensor],
    gradients: tuple[torch.Tensor, torch.Tensor, torch.Tensor],
    ds_Td: torch.Tensor,
    codes_JT: torch.Tensor,
    *,
    temperature: float,
    smoothing: float,
    scale: float,
) -> torch.Tensor:
    """Loss of a block; adds its gradients to those given. Matrix products are in s's type.

    Args:
        parameters: tokens [J, K, d], weight [J, d, d] and bias [J, d], float32.
        gradients: of the same shapes. ds_Td: float32 gradient of s.
        codes_JT: int64, the right codes.
        scale: what the summed cross-entropy is multiplied by.
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
    log_p = F.log_softmax(z_JTK, dim=-1)
    target = codes_JT[..., None]
    loss = -(1 - smoothing) * log_p.gather(-1, target).sum()
    size = tokens.shape[1]
    if smoothing:
        loss -= smoothing / size * log_p.sum()

    dz = torch.exp(log_p, out=z_JTK).sub_(smoothing / size)
    dz.scatter_add_(-1, target, torch.full_like(target, smoothing - 1, dtype=dz.dtype))
    # the gradient of the logits sums to 0, so log p stands for z: they differ by a constant
    through_norm = torch.linalg.vecdot(dz, log_p)[..., None].mul_(inverse).mul_(inverse)
    raw = dz.mul_(inverse * (scale / temperature)).to(kind)
    dh = torch.bmm(raw, unit.to(kind))
    dh.addcmul_(h_JTd, through_norm.mul_(-scale).to(kind))
    du = torch.ops.aten.silu_backward(dh, u_JTd)
    for part in dh.baddbmm_(du, weight):  # a sum over J of bfloat16 takes five times as long
        ds_Td.add_(part)

    d_unit = torch.bmm(raw.transpose(1, 2), h_JTd).float()
    d_unit.addcmul_(unit, torch.linalg.vecdot(unit, d_unit)[..., None], value=-1)
    gradients[0].add_(d_unit.div_(length))
    gradients[1].add_(torch.bmm(du.transpose(1, 2), s_JTd))
    gradients[2].add_(du.sum(1))
    return loss * scale
