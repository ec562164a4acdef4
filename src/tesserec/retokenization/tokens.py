"""Tokens of a model under new codes: renamed where only names changed, mixed where meanings did.

RPG reads and predicts a code by one vector, so whatever is done to it holds for both; its heads
belong to digits and stay.

Legend of shapes: m digits, K codes a digit, d width, N items.
"""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import torch
from torch import nn

from tesserec.errors import UsageError
from tesserec.training.onward import Moments

TOKENS = "tokens"  # RPG's parameter [m, K, d]


def rename_tokens(model: Any, old_of: np.ndarray) -> Any:
    """The model for a table in which only names changed: code k of digit j was `old_of[j, k]`.

    It holds the old table until `grown` gives it the new one; everything but tokens is shared.

    Args:
        old_of: int64 [m, K], a permutation of each digit's codes.

    Raises:
        UsageError: a model without tokens, or a row that is no permutation.
    """
    index = _permutations(model, old_of)
    return _with_tokens(model, model.tokens.detach().gather(1, index.expand(model.tokens.shape)))


def soft_tokens(model: Any, counts: np.ndarray, smoothing: float = 0.5) -> Any:
    """The model for a table whose codes mix others: each token is the mean of those that it was.

    Args:
        counts: [m, K, K]; of the items with code k of digit j now, how many had code k' before.
        smoothing: items that each code gets besides, spread evenly over the old codes.

    Raises:
        UsageError: a model without tokens, or counts of another shape.
    """
    digits, size, _ = _tokens(model).shape
    if counts.shape != (digits, size, size):
        raise UsageError(
            f"counts of codes are {list(counts.shape)}, the model takes {[digits, size, size]}; "
            "count over the table that it was trained with"
        )
    share = torch.from_numpy(np.asarray(counts, dtype=np.float64)) + smoothing / size
    total = share.sum(2, keepdim=True)
    # a code that nothing is known of is the mean of all
    share = torch.where(total > 0, share / total.clamp_min(1e-300), 1.0 / size)
    mixed = torch.bmm(share, model.tokens.detach().double().cpu())
    return _with_tokens(model, mixed.to(model.tokens))


def rename_moments(moments: Moments, old_of: np.ndarray) -> Moments:
    """The optimiser's moments go with the tokens that `rename_tokens` renames."""
    index = torch.from_numpy(old_of.astype(np.int64))[..., None]
    return _of_tokens(moments, lambda moment: moment.gather(1, index.expand(moment.shape)))


def reset_moments(moments: Moments, changed: np.ndarray) -> Moments:
    """Moments of `changed` tokens (bool [m, K]) are zero; the count of steps stays."""
    kept = torch.from_numpy(~changed)[..., None]
    return _of_tokens(moments, lambda moment: moment * kept)


def code_counts(old: np.ndarray, new: np.ndarray, codebook_size: int) -> np.ndarray:
    """int64 [m, K, K] for `soft_tokens`: items of both tables [N, m] by new code, then by old."""
    digits = old.shape[1]
    counts = np.zeros((digits, codebook_size, codebook_size), dtype=np.int64)
    for j in range(digits):
        np.add.at(counts[j], (new[:, j], old[:, j]), 1)
    return counts


def changed_codes(old: np.ndarray, new: np.ndarray, codebook_size: int) -> np.ndarray:
    """bool [m, K]: codes that half of their items, or more, did not have before, of tables [N, m].

    A code that no item had or has stands for nothing, and so for nothing else.
    """
    digits = old.shape[1]
    changed = np.zeros((digits, codebook_size), dtype=bool)
    for j in range(digits):
        now = np.bincount(new[:, j], minlength=codebook_size)
        stayed = np.bincount(new[old[:, j] == new[:, j], j], minlength=codebook_size)
        changed[j] = (now > 0) & (2 * stayed <= now)
    return changed


def _tokens(model: Any) -> torch.Tensor:
    tokens = getattr(model, TOKENS, None)
    if tokens is None:
        raise UsageError(f"model {model.name} has no tokens of codes; use model.name=rpg")
    return tokens


def _permutations(model: Any, old_of: np.ndarray) -> torch.Tensor:
    """int64 [m, K, 1]"""
    digits, size, _ = _tokens(model).shape
    if old_of.shape != (digits, size) or (np.sort(old_of, axis=1) != np.arange(size)).any():
        raise UsageError(
            f"names of codes are {list(old_of.shape)}; each of {digits} digits takes a permutation "
            f"of 0 to {size - 1}"
        )
    return torch.from_numpy(old_of.astype(np.int64))[..., None]


def _with_tokens(model: Any, tokens: torch.Tensor) -> Any:
    other = copy.copy(model)
    other._parameters = {**model._parameters, TOKENS: nn.Parameter(tokens)}
    other._frozen = None  # what was made ready of the old tokens
    return other


def _of_tokens(moments: Moments, change: Any) -> Moments:
    entry = moments.get(TOKENS)
    if entry is None:
        return moments
    return {**moments, TOKENS: {k: v if k == "step" else change(v) for k, v in entry.items()}}
