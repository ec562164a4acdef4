"""What cold recommendation has to beat: the items whose content is nearest to the history's."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tesserec.evaluation.baselines import ranks_of
from tesserec.recommender import seen_rows

LAST = 3  # items of a history: more of them find less (docs/retokenization.md)
_BLOCK = 256  # histories scored at once


class ContentKNN:
    """Cosine of an item's content vector with the mean of the history's last items."""

    name = "content_knn"

    def __init__(self, vectors: np.ndarray, *, last: int = LAST) -> None:
        """`vectors` float32 [N, D], as the encoder gives them; `last` items of a history count."""
        norm = np.linalg.norm(vectors, axis=1, keepdims=True)
        self._unit = (vectors / np.maximum(norm, 1e-12)).astype(np.float32)
        self._last = last

    def target_ranks(
        self,
        histories: Sequence[np.ndarray],
        targets: np.ndarray,
        among: np.ndarray | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """As Popularity.target_ranks; `among` bool [N]: the only items to be ranked."""
        kept = np.zeros(len(histories), dtype=np.int64)
        dropped = np.zeros(len(histories), dtype=np.int64)
        for start in range(0, len(histories), _BLOCK):
            part = slice(start, min(start + _BLOCK, len(histories)))
            profiles = [self._unit[h[-self._last :]].mean(axis=0) for h in histories[part]]
            scores = np.stack(profiles) @ self._unit.T
            if among is not None:
                scores[:, ~among] = -np.inf
            seen = [seen_rows(h) for h in histories[part]]
            kept[part], dropped[part] = ranks_of(scores, targets[part], seen)
        return kept, dropped
