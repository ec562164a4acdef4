"""A saved graph: one file of tensors, for one code table and the tokens of one model.

Beam and steps lie in `decoder.json`. Legend of shapes: N items, m digits, K codes a digit, d width,
k edges.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from tesserec.errors import ArtifactError

GRAPH = "graph.safetensors"
MADE_FOR = "made_for"


def write_graph(
    path: Path, edges: np.ndarray, starts: np.ndarray, codes: np.ndarray, tokens: str
) -> None:
    """Write edges int32 [N, k] and starts int64, with what they were made for.

    That is the hash of the codes, and `tokens`, the hash of the model's token vectors.
    """
    # as one entry: several are written in any order, and equal graphs are to be equal files
    made_for = json.dumps({"codes": sha_of(codes), "tokens": tokens})
    save_file({"edges": edges, "starts": starts}, path, metadata={MADE_FOR: made_for})


def read_graph(
    path: Path, codes: np.ndarray, tokens: str | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Edges and starts of a graph of these codes or of their first rows.

    `tokens`: the hash of the token vectors of the model at hand; None: not looked at.

    Raises:
        ArtifactError: the file is missing, damaged, or made for other codes or another model.
    """
    try:
        with safe_open(path, framework="numpy") as file:
            edges, starts = file.get_tensor("edges"), file.get_tensor("starts")
            told = file.metadata() or {}
            made_for = json.loads(told[MADE_FOR]) if MADE_FOR in told else told
    except (OSError, ValueError, SafetensorError) as error:
        raise ArtifactError(f"{path} is no readable graph: {error}; run verify") from None
    known = len(edges)
    lowest, highest = edges.min(initial=0), max(edges.max(initial=-1), starts.max(initial=-1))
    shaped = edges.ndim == 2 and edges.dtype == np.int32 and starts.dtype == np.int64
    inside = lowest >= -1 and highest < known and starts.min(initial=0) >= 0
    ours, theirs = sha_of(codes[:known]), str(made_for.get("codes"))
    if not (shaped and inside) or theirs != ours:
        raise ArtifactError(
            f"the graph {path} was made for another code table ({known} items with hash "
            f"{theirs[:12]}, here {len(codes)}, of which the first have {ours[:12]}) or is "
            "damaged; build the release anew"
        )
    if tokens is not None and made_for.get("tokens") != tokens:
        raise ArtifactError(
            f"the graph {path} was made for the token vectors of another model "
            f"({str(made_for.get('tokens'))[:12]}, here {tokens[:12]}), or by a version that "
            "didn't note them; build the release anew"
        )
    return edges, starts


def sha_of(values: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(values).tobytes()).hexdigest()
