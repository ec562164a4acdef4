"""Cross-entropy over a whole catalogue, with the gradient by hand, in blocks of targets.

The logits of a training step are [T, N]: 70 MB for 12,000 items, 6 GB for a million. A block goes
forwards and at once backwards, so that memory holds one block, in buffers that all blocks share.
A test holds the gradient against autograd.

Legend of shapes: T targets, C targets of a block, N items, d width.
"""

from __future__ import annotations

import torch

BLOCK = {"cpu": 2**20, "cuda": 2**27}  # logits held at once; on a CPU they stay in the cache


@torch.no_grad()
def softmax_backward(
    s_Td: torch.Tensor,
    vectors_Nd: torch.Tensor,
    d_vectors_Nd: torch.Tensor,
    targets_T: torch.Tensor,
    *,
    smoothing: float,
    scale: float,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Summed cross-entropy of `s @ vectors.T`, times `scale`, and its float32 gradient of s.

    Adds the gradient of the vectors to `d_vectors_Nd`. Matrix products are in s's type.

    Args:
        vectors_Nd: float32 parameter. targets_T: int64 rows of it.
        smoothing: share of the target that is spread evenly over all N.
    """
    kind, items = s_Td.dtype, len(vectors_Nd)
    table = vectors_Nd.to(kind)
    mean = vectors_Nd.mean(0)
    size = min(max(BLOCK.get(s_Td.device.type, BLOCK["cpu"]) // items, 1), len(s_Td))
    raw = torch.empty((size, items), dtype=kind, device=s_Td.device)
    p = torch.empty((size, items), device=s_Td.device)
    loss = torch.zeros((), device=s_Td.device)
    ds_Td = torch.empty(s_Td.shape, device=s_Td.device)
    for start in range(0, len(s_Td), size):
        s_Cd, target = s_Td[start : start + size], targets_T[start : start + size, None]
        z, p_CN = raw[: len(s_Cd)], p[: len(s_Cd)]
        torch.mm(s_Cd, table.t(), out=z)
        top, place = z.max(1, keepdim=True)
        own = z.gather(1, target).float()
        torch.softmax(z, 1, dtype=torch.float32, out=p_CN)
        # the largest probability is at least 1 / N, so its logarithm is exact where the target's
        # own may have vanished
        total = top.float() - p_CN.gather(1, place).log()
        even = (s_Cd.float() @ mean)[:, None]  # the mean of all logits
        loss += (total - (1 - smoothing) * own - smoothing * even).sum()
        if smoothing:
            p_CN.sub_(smoothing / items)
        p_CN.scatter_add_(1, target, torch.full_like(own, smoothing - 1))
        dz = p_CN.mul_(scale) if kind == p_CN.dtype else z.copy_(p_CN.mul_(scale))
        ds_Td[start : start + size] = torch.mm(dz, table)
        if kind == d_vectors_Nd.dtype:
            d_vectors_Nd.addmm_(dz.t(), s_Cd)
        else:
            d_vectors_Nd.add_(torch.mm(dz.t(), s_Cd))
    return loss * scale, ds_Td
