"""The graph of items that the graph decoder walks on: every item's k most similar items.

Similarity of two items: mean over digits of (1 + cosine of the digit's two token vectors) / 2
(Hou et al., KDD 2025, arXiv 2506.05781), a sum of m look-ups. Trained tokens are nearly orthogonal,
so lists of like items find few of the neighbours (docs/log.md); every pair is compared instead, by
the exact scan, in blocks, never N x N: about a billionth of a second a pair and core.
Legend of shapes: N items, n new ones, m digits, K codes a digit, d width, k edges.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional as F

from tesserec.decoders.graph_insert import WIDTH, add_edges, new_edges
from tesserec.decoders.scan import Scan
from tesserec.errors import ArtifactError
from tesserec.progress import report

STEP = 1e-5  # the least step of rounding: well above what float32 sums err by
TURN = 64  # items whose edges are looked for together


@dataclass(frozen=True)
class Similarity:
    """How like each other the codes of a digit are."""

    exact: np.ndarray  # float32 [m, K, K], symmetric; an item's with itself adds up to 1
    coarse: np.ndarray  # uint8 [m, K, K]: exact is exact.min() + step * coarse, within step / 2
    step: float

    @classmethod
    def of(cls, tokens: torch.Tensor) -> Similarity:
        """Of token vectors [m, K, d]."""
        unit = F.normalize(tokens.detach().float().cpu(), dim=-1)
        cosine = unit @ unit.transpose(1, 2)
        half = ((1 + (cosine + cosine.transpose(1, 2)) / 2) / 2).clamp_min(0)
        exact = (half / len(tokens)).numpy()
        low = float(exact.min(initial=1.0))
        step = max((float(exact.max(initial=0.0)) - low) / 255, STEP)
        coarse = np.rint((exact.astype(np.float64) - low) / step).astype(np.uint8)
        return cls(np.ascontiguousarray(exact), coarse, step)


def edges_of(
    rows: np.ndarray, codes: np.ndarray, similarity: Similarity, k: int, name: str = "edges"
) -> np.ndarray:
    """int32 [len(rows), k]: each row's most similar items, itself among them, best first.

    Equally similar items go by row. -1 where the catalogue holds fewer than k items. On as many
    threads as torch is set to; the result doesn't depend on their number.

    Raises:
        ArtifactError: the code table holds codes without a token.
    """
    _check(codes, similarity)
    out = np.full((len(rows), k), -1, dtype=np.int32)
    digits, size = similarity.exact.shape[:2]
    scan, digit, width = Scan(codes, size), np.arange(digits), min(k, len(codes))
    for start in range(0, len(rows), TURN):
        part = codes[rows[start : start + TURN]]
        # to the scan, an item's row of similarities is what a user's log-probabilities are
        state = torch.from_numpy(similarity.exact[digit, part])
        out[start : start + TURN, :width] = scan.rank(state, width)[0]
        report(start + len(part), len(rows), phase=name)
    return out


def build_edges(codes: np.ndarray, similarity: Similarity, k: int) -> np.ndarray:
    """`edges_of` every item: int32 [N, k]."""
    return edges_of(np.arange(len(codes)), codes, similarity, k, "graph")


def insert_edges(edges: np.ndarray, codes: np.ndarray, similarity: Similarity) -> np.ndarray:
    """The graph of `codes` [N + n, m] from that of its first N rows: equal to a new build.

    The new items' edges are looked for among all items; where a new item is more like an old one
    than the weakest of its edges is, it takes that one's place.
    """
    _check(codes, similarity)
    old, k = edges.shape
    codes = np.ascontiguousarray(codes)
    fresh = edges_of(np.arange(old, len(codes)), codes, similarity, k, "new edges")
    grown = np.concatenate([edges, fresh])
    exact, coarse, step = similarity.exact, similarity.coarse, similarity.step
    for start in range(old, len(codes), WIDTH):
        stop = min(start + WIDTH, len(codes))
        pairs = new_edges(exact, coarse, step, codes, edges, np.arange(start, stop))
        add_edges(exact, codes, grown, pairs)
        report(stop - old, len(codes) - old, phase="back edges")
    return grown


def _check(codes: np.ndarray, similarity: Similarity) -> None:
    digits, size = similarity.exact.shape[:2]
    if codes.ndim != 2 or codes.shape[1] != digits or codes.max(initial=0) >= size:
        raise ArtifactError(
            f"a code table {list(codes.shape)} with codes up to {codes.max(initial=0)} doesn't fit "
            f"{digits} digits of {size} codes; take the table and the model of one release"
        )
