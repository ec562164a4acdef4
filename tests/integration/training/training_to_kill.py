"""A small training in its own process; test_loop.py kills it."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np

from tesserec.config import TrainingConfig
from tesserec.evaluation.metrics import means
from tesserec.models.rpg import RPG, Shape
from tesserec.recommender import Recommender
from tesserec.training.checkpoint import Checkpoints
from tesserec.training.loop import fit
from tesserec.training.packing import windows

ITEMS = 60


def main(folder: Path) -> None:
    rng = np.random.default_rng(0)
    codes = rng.integers(0, 16, (ITEMS, 4)).astype(np.uint8)
    walks = [(np.arange(n) * 3 + s) % ITEMS for n, s in rng.integers((3, 0), (30, 60), (60, 2))]
    shape = Shape(digits=4, codebook_size=16, dim=16, heads=2, ffn=16, dropout=0.3)
    model = RPG(shape, codes, seed=1)

    def validate(now: RPG) -> dict[str, float]:
        recommender = Recommender.of_parts(now, codes, [str(i) for i in range(ITEMS)])
        targets = np.array([w[-1] for w in walks])
        return means(recommender.target_ranks([w[:-1] for w in walks], targets)[0])

    config = TrainingConfig(
        epochs=6, batch_users=8, learning_rate=0.005, eval_every=2, threads=1, patience=99
    )
    history = fit(
        model,
        windows([w[:-1] for w in walks], 50),
        config,
        seed=1,
        validate=validate,
        checkpoints=Checkpoints(folder / "checkpoints", recipe="test", every_s=0.0),
    )
    (folder / "history.json").write_text(json.dumps(history))
    model.save(folder / "done")
    (folder / "done" / "model.safetensors").rename(folder / "model.safetensors")


main(Path(sys.argv[1]))
