"""A graph in the `decoder` folder of a release: `graph.safetensors` and `decoder.json`.

Legend of shapes: N items, k edges.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from tesserec.errors import ArtifactError

GRAPH, OPTIONS = "graph.safetensors", "decoder.json"


@dataclass(frozen=True)
class Saved:
    """What a graph decoder is, beside codes and model."""

    edges: np.ndarray  # int32 [N, k], -1: none
    starts: np.ndarray  # int64 rows
    beam: int
    steps: int


def write_graph(folder: Path, graph: Saved, codes: np.ndarray) -> None:
    """Write a graph, and the hash of the codes that it was made for."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {"edges": graph.edges, "starts": graph.starts}
    save_file(tensors, folder / GRAPH, metadata={"codes": _sha(codes)})
    options = {"name": "graph", "edges": graph.edges.shape[1]}
    options |= {"beam": graph.beam, "steps": graph.steps}
    (folder / OPTIONS).write_text(json.dumps(options, indent=1, sort_keys=True))


def read_graph(folder: Path, codes: np.ndarray) -> Saved:
    """Read a graph of these codes or of their first rows.

    Raises:
        ArtifactError: the files are missing, damaged, or made for other codes.
    """
    try:
        options = json.loads((folder / OPTIONS).read_text())
        beam, steps = int(options["beam"]), int(options["steps"])
        with safe_open(folder / GRAPH, framework="numpy") as file:
            edges, starts = file.get_tensor("edges"), file.get_tensor("starts")
            sha = (file.metadata() or {}).get("codes")
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        raise ArtifactError(f"{folder} holds no readable graph: {error}; run verify") from None
    known = len(edges)
    lowest, highest = edges.min(initial=0), max(edges.max(initial=-1), starts.max(initial=-1))
    shaped = edges.ndim == 2 and edges.dtype == np.int32 and starts.dtype == np.int64
    inside = lowest >= -1 and highest < known and starts.min(initial=0) >= 0
    if not (shaped and inside) or sha != _sha(codes[:known]):
        raise ArtifactError(
            f"the graph in {folder} was made for another code table ({known} items, here "
            f"{len(codes)}) or is damaged; build the release anew"
        )
    return Saved(edges, starts, beam, steps)


def _sha(codes: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(codes).tobytes()).hexdigest()
