"""A saved graph: one file of tensors, for one code table; beam and steps lie in `decoder.json`.

Legend of shapes: N items, k edges.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from tesserec.errors import ArtifactError

GRAPH = "graph.safetensors"


def write_graph(path: Path, edges: np.ndarray, starts: np.ndarray, codes: np.ndarray) -> None:
    """Write edges int32 [N, k] and starts int64, with the hash of the codes they were made for."""
    save_file({"edges": edges, "starts": starts}, path, metadata={"codes": _sha(codes)})


def read_graph(path: Path, codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Edges and starts of a graph of these codes or of their first rows.

    Raises:
        ArtifactError: the file is missing, damaged, or made for other codes.
    """
    try:
        with safe_open(path, framework="numpy") as file:
            edges, starts = file.get_tensor("edges"), file.get_tensor("starts")
            sha = (file.metadata() or {}).get("codes")
    except (OSError, SafetensorError) as error:
        raise ArtifactError(f"{path} is no readable graph: {error}; run verify") from None
    known = len(edges)
    lowest, highest = edges.min(initial=0), max(edges.max(initial=-1), starts.max(initial=-1))
    shaped = edges.ndim == 2 and edges.dtype == np.int32 and starts.dtype == np.int64
    inside = lowest >= -1 and highest < known and starts.min(initial=0) >= 0
    if not (shaped and inside) or sha != _sha(codes[:known]):
        raise ArtifactError(
            f"the graph {path} was made for another code table ({known} items, here "
            f"{len(codes)}) or is damaged; build the release anew"
        )
    return edges, starts


def _sha(codes: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(codes).tobytes()).hexdigest()
