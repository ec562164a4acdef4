"""A trained model for a code table that was made anew: it begins where the old one stood.

Codes that kept their meaning under their old names keep their tokens; the others begin as the mean
of what their items had before (`tokens.py`). Vectors of items go to the items' new rows.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch

from tesserec.errors import ArtifactError
from tesserec.retokenization.tokens import TOKENS, changed_codes, code_counts, soft_tokens


def warm_started(
    model: Any, old: np.ndarray, new: np.ndarray, rows: np.ndarray
) -> tuple[Any, np.ndarray]:
    """The model for the table `new` [n, m], and which codes mean something else, bool [m, K].

    Args:
        model: RPG, trained for the table `old` [N, m].
        rows: int64 [n], of each new row the old one of the same item; -1: the item is new.

    Raises:
        ArtifactError: the tables have other digits.
    """
    if old.shape[1] != new.shape[1]:
        raise ArtifactError(
            f"the new codes have {new.shape[1]} digits, the model {old.shape[1]}; train it anew: "
            "tesserec run CONFIG.yaml"
        )
    both = rows >= 0
    size = model.shape.codebook_size
    before, after = old[rows[both]].astype(np.int64), new[both].astype(np.int64)
    changed = changed_codes(before, after, size)
    soft = soft_tokens(model, code_counts(before, after, size))
    own = len(new) if model.shape.id_vectors else 0
    fresh = type(model)(replace(model.shape, id_vectors=own), new)
    state = {name: value.detach().clone() for name, value in model.state_dict().items()}
    mask = torch.from_numpy(changed)[..., None]
    state[TOKENS] = torch.where(mask, soft.tokens.detach(), state[TOKENS])
    if own:
        state["ids"] = _moved(state["ids"], rows, own)
    fresh.load_state_dict(state)
    return fresh, changed


def _moved(vectors: torch.Tensor, rows: np.ndarray, size: int) -> torch.Tensor:
    """Items' own vectors [n, d] at their new rows; 0 of an item that had none."""
    had = (rows >= 0) & (rows < len(vectors))
    out = torch.zeros((size, vectors.shape[1]), dtype=vectors.dtype)
    out[torch.from_numpy(np.flatnonzero(had))] = vectors[torch.from_numpy(rows[had])]
    return out
