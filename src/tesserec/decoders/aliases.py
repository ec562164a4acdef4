"""Items that have a second code for a while: the one from before the codes were made anew.

The model has been trained on the old codes for longer than on the new ones. Both lead to the item:
their probabilities are added, as of a model that gives an item several IDs. The scan can't do that,
so a release with aliases is decoded exhaustively (docs/retokenization.md).
"""

from __future__ import annotations

import numpy as np
import torch

from tesserec.decoders.scorers import CodeScorer


class AliasScorer:
    """log(p(code) + p(alias)) of items with an alias, log p(code) of the others."""

    def __init__(
        self, codes: np.ndarray, codebook_size: int, rows: np.ndarray, aliases: np.ndarray
    ) -> None:
        """Codes [N, m]; `rows` int64 [a], rising, of the items that have `aliases` [a, m]."""
        self._codes = CodeScorer(codes, codebook_size)
        self._aliases = CodeScorer(aliases, codebook_size)
        self._rows = np.ascontiguousarray(rows)
        self.items = len(codes)

    def to(self, device: torch.device) -> AliasScorer:
        self._codes.to(device)
        self._aliases.to(device)
        return self

    def scores(self, state: torch.Tensor, start: int, stop: int) -> torch.Tensor:
        """float32 [stop - start, B] of states [B, m, K], log-probabilities."""
        out = self._codes.scores(state, start, stop)
        low, high = np.searchsorted(self._rows, [start, stop]).tolist()
        if low < high:
            place = torch.from_numpy(self._rows[low:high] - start).to(out.device)
            out[place] = torch.logaddexp(out[place], self._aliases.scores(state, low, high))
        return out
