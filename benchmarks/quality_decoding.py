"""NDCG@10 against decoding time: the exact scan beside walks over the graph, on test users.

    python benchmarks/quality_decoding.py WORKDIR    a finished run of RPG, alone or in a fusion

One core, thread time, batches of 64 users, seen items kept. Puts the points into
docs/img/quality.json, of which quality_curves.py draws the picture.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tesserec.artifacts import open_artifact
from tesserec.config import from_dict
from tesserec.decoders import make
from tesserec.decoders.graph import GraphDecoder
from tesserec.evaluation.metrics import ndcg
from tesserec.models.rpg import RPG
from tesserec.steps.catalogue import read_catalogue

FIGURES = Path(__file__).resolve().parents[1] / "docs" / "img" / "quality.json"
USERS, BATCH, TOP = 8192, 64, 10
WALKS = ((10, 1), (10, 2), (20, 2), (50, 2), (50, 3), (100, 3))  # beam, steps


def newest(folder: Path, kind: str) -> Path:
    return max((folder / "artifacts").glob(f"{kind}-*"), key=lambda p: p.stat().st_mtime)


def point(decoder: Any, states: list[torch.Tensor], targets: np.ndarray) -> list[float]:
    """Milliseconds a user and NDCG@10."""
    decoder.warm()
    decoder.rank(states[0], TOP)
    began = time.thread_time()
    rows = np.concatenate([decoder.rank(state, TOP)[0] for state in states])
    spent = time.thread_time() - began
    hit = rows == targets[:, None]
    ranks = np.where(hit.any(axis=1), hit.argmax(axis=1) + 1, 0)
    return [round(1000 * spent / len(targets), 4), round(float(ndcg(ranks, TOP).mean()), 4)]


def main() -> None:
    if len(sys.argv) != 2:
        raise SystemExit(__doc__)
    torch.set_num_threads(1)
    workdir = Path(sys.argv[1])
    run = max(workdir.glob("reports/*/run.json"))
    config = from_dict(json.loads(run.read_text())["config"])
    codes, features = (open_artifact(newest(workdir, kind)) for kind in ("codes", "features"))
    items = read_catalogue(config, codes, features)
    model = newest(workdir, "model")
    assert items.codes is not None
    rpg = RPG.load(model / "rpg" if (model / "rpg").is_dir() else model, items.codes)
    rpg.freeze()
    asked = items.cases("test", users=USERS, seed=1)
    parts = range(0, len(asked), BATCH)
    states = [rpg.state(asked.histories[start : start + BATCH]) for start in parts]
    found = {"exact scan": [point(make("scan", rpg, items.codes), states, asked.targets)]}
    graph = GraphDecoder.of(rpg, items.codes)
    for name in ("graph, even starts", "graph, popular starts"):
        if name == "graph, popular starts":
            graph.start_at(items.frequency)
        found[name] = []
        for graph.beam, graph.steps in WALKS:
            found[name].append(point(graph, states, asked.targets))
    figures = json.loads(FIGURES.read_text())
    figures["decoding"] = {f"Beauty, {name}": points for name, points in found.items()}
    FIGURES.write_text(json.dumps(figures, indent=1) + "\n")
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
