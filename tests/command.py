"""Running our own commands in tests, and the smallest run that learns something."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SCHEDULE = {
    "epochs": 30,
    "batch_users": 64,
    "learning_rate": 0.004,
    "warmup_steps": 20,
    "eval_every": 5,
    "checkpoint_s": 0.5,
    "threads": 1,
}
TINY = {
    "name": "tiny",
    "data": {"source": "generated", "generated_users": 600, "generated_items": 150},
    "encoder": {"pca_dim": 32, "lsa_dim": 48},
    "tokenizer": {"digits": 8, "codebook_size": 16, "iterations": 5},
    "model": {"dim": 32, "heads": 2, "ffn": 64, "dropout": 0.1},
    "training": SCHEDULE,
    "sasrec": {"dim": 32, "ffn": 64, "dropout": 0.1, "training": SCHEDULE},
    "evaluation": {"bootstrap": 200},
    "serving": {"rehearsal_users": 50},
}


def environment() -> dict[str, str]:
    return os.environ | {"TESSEREC_PROJECT": str(ROOT), "OMP_NUM_THREADS": "1"}


def tesserec(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tesserec.cli", *arguments],
        env=environment(),
        capture_output=True,
        text=True,
    )
