"""Cross-entropy over items of the score that decoding adds up, with the gradient by hand.

RPG's loss teaches each digit by itself; nothing in it tells the digits to agree on items that
exist. Here an item's sum of m log-probabilities, times a learned scale, is its logit among
candidates: the step's own targets and items drawn evenly. The model and its decoding stay as they
are, and it learns several times faster (docs/log.md). A test holds the gradient against autograd.

Legend of shapes: T targets, m digits, K codes a digit, N items, C candidates.
"""

from __future__ import annotations

import torch
from torch.nn import functional as F

START_SCALE = 0.05  # of the sums; training moves it


def candidates(targets: torch.Tensor, items: int, drawn: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows int64 [C], rising, and the place of each target among them, int64 [T].

    Draws `drawn` rows of the `items` by torch's own generator, so that the seed of the step rules;
    all rows where that is no fewer.
    """
    if drawn >= items:
        return torch.arange(items, device=targets.device), targets
    draw = torch.randint(items, (drawn,), device=targets.device)
    rows = torch.unique(torch.cat([targets, draw]))
    return rows, torch.searchsorted(rows, targets)


@torch.no_grad()
def item_backward(
    log_p: torch.Tensor,
    index: torch.Tensor,
    place: torch.Tensor,
    log_scale: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Mean cross-entropy of the right candidates, and its gradients.

    Args:
        log_p: float32 [m * K, T], log-probabilities of every code.
        index: int32 [C, m], rows of `log_p` that make up each candidate.
        place: int64 [T], the right candidate.
        log_scale: scalar; logits are sums times its exponential.

    Returns:
        The loss, its gradient of `log_p` [m * K, T], and of `log_scale`.
    """
    scale = log_scale.exp()
    sums_CT = F.embedding_bag(index, log_p, mode="sum")
    z = F.log_softmax(sums_CT * scale, dim=0)
    right = place[None]
    loss = -z.gather(0, right).mean()
    dz = z.exp_().scatter_add_(0, right, torch.full_like(right, -1, dtype=z.dtype))
    dz.mul_(1.0 / len(place))
    d_log_scale = torch.vdot(dz.flatten(), sums_CT.flatten()) * scale
    return loss, _to_codes(dz.mul_(scale), index, len(log_p)), d_log_scale


def _to_codes(d_CT: torch.Tensor, index: torch.Tensor, codes: int) -> torch.Tensor:
    """Add up [C, T] over the candidates of each code: what the sum's own backward does.

    As sums over sorted lists it takes half the time of adding rows one by one, and its order is
    fixed.
    """
    flat = index.flatten()
    order = torch.argsort(flat, stable=True)
    counts = torch.bincount(flat, minlength=codes)
    first = torch.cumsum(counts, 0) - counts
    rows = torch.div(order, index.shape[1], rounding_mode="floor")
    return F.embedding_bag(rows.to(index.dtype), d_CT, first.to(index.dtype), mode="sum")
