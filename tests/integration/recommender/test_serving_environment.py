"""The serving environment (numpy 1.26, no pipeline tools) gives the pipeline's answers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[3]
SERVE = ROOT / ".venv-serve" / "bin" / "python"
PROGRAM = """
import json, sys
from pathlib import Path
import numpy as np, torch
from tesserec.decoders.constraints import Constraints, pack_bits
from tesserec.models.rpg import RPG
from tesserec.recommender import Recommender
torch.set_num_threads(1)
rng = np.random.default_rng(1)
codes = rng.integers(0, 16, (80, 8)).astype(np.uint8)
model = RPG.load(Path(sys.argv[1]), codes)
recommender = Recommender.of_parts(model, codes, [str(i) for i in range(80)])
rows = np.arange(80, dtype=np.int32)
rules = Constraints(quota=(pack_bits(rows > 70), 2), cap=(rows % 5, 3))
histories = [[str(i) for i in rng.integers(0, 80, n)] for n in (1, 5, 60, 0, 12)]
ids, scores = recommender.recommend(histories, 10, rules)
print(json.dumps({"numpy": np.__version__, "ids": ids, "scores": [s.tolist() for s in scores]}))
"""


def answer(python: Path, folder: Path) -> dict:
    command = [str(python), "-W", "error", "-c", PROGRAM, str(folder)]
    run = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout)


def test_same_answers(tmp_path: Path) -> None:
    if not SERVE.exists():
        message = "there is no .venv-serve; `make install` makes it"
        (pytest.fail if os.environ.get("CI") else pytest.skip)(message)
    from tesserec.models.rpg import RPG, Shape

    codes = np.zeros((1, 8), dtype=np.uint8)
    RPG(Shape(digits=8, codebook_size=16, dim=16, heads=2, ffn=16), codes, seed=2).save(tmp_path)
    here, there = answer(Path(sys.executable), tmp_path), answer(SERVE, tmp_path)
    assert there["ids"] == here["ids"]
    for ours, theirs in zip(here["scores"], there["scores"], strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4)
