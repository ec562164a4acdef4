"""Codes and features of a tiny learnable shop: each user walks over items in steps of three."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from safetensors.numpy import save_file

from tesserec.artifacts import Artifact, build
from tesserec.config import RunConfig, from_dict

ITEMS, USERS = 40, 60
CONFIG: dict = {
    "encoder": {"pca_dim": 8},
    "tokenizer": {"digits": 4, "codebook_size": 16},
    "model": {"dim": 16, "heads": 2, "ffn": 16, "dropout": 0.1},
    "training": {
        "epochs": 15,
        "batch_users": 8,
        "learning_rate": 0.01,
        "threads": 1,
        "precision": "fp32",
        "device": "cpu",
    },
    "evaluation": {"bootstrap": 100},
}


def config(*, model: str = "rpg", **training: Any) -> RunConfig:
    """The tiny run's; `training` is that of SASRec too."""
    schedule = CONFIG["training"] | training
    tree = CONFIG | {"training": schedule, "model": CONFIG["model"] | {"name": model}}
    sasrec = {"dim": 16, "ffn": 16, "dropout": 0.1, "training": schedule}
    return from_dict(tree | {"sasrec": sasrec})


def make(workdir: Path, kind: str, fill: Callable[[Path], None]) -> Artifact:
    return build(workdir, kind, params={}, parents=(), version=1, make=fill)[0]


def shop(workdir: Path, *, longest: int = 20) -> tuple[Artifact, Artifact]:
    """Codes and features."""
    rng = np.random.default_rng(1)
    ids = [f"i{r}" for r in range(ITEMS)]
    lengths = rng.integers(min(4, longest), longest + 1, USERS)
    starts = rng.integers(0, ITEMS, USERS)
    walks = [
        [ids[(3 * n + s) % ITEMS] for n in range(k)] for k, s in zip(lengths, starts, strict=True)
    ]

    def codes(folder: Path) -> None:
        table = rng.integers(0, 16, (ITEMS, 4)).astype(np.uint8)
        save_file({"codes": table}, folder / "codes.safetensors")
        trained = pa.array([True] * ITEMS)
        pq.write_table(pa.table({"item_id": ids, "trained": trained}), folder / "item_ids.parquet")

    def features(folder: Path) -> None:
        for name in ("sequences", "item_profile"):
            (folder / name).mkdir()
        sequences = pa.table(
            {
                "user_id": [f"u{u:03d}" for u in range(USERS)],
                "item_ids": walks,
                "timestamps": [list(range(len(w))) for w in walks],
            }
        )
        pq.write_table(sequences, folder / "sequences/part-0.parquet")
        titles = [f"Title {r}" if r else None for r in range(ITEMS)]
        profile = pa.table({"item_id": ids, "title": titles, "row": list(range(ITEMS))})
        pq.write_table(profile, folder / "item_profile/part-0.parquet")
        summary = {"cuts": {"train": None, "watermark": 99}, "has_times": True}
        (folder / "summary.json").write_text(json.dumps(summary))

    return make(workdir, "codes", codes), make(workdir, "features", features)
