"""A training killed with -9 goes on at the exact step and ends with the same bytes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from tesserec.artifacts import sha256_of

TRAINING = Path(__file__).with_name("training_to_kill.py")


def train(folder: Path, *, wait: bool = True) -> subprocess.Popen[bytes]:
    process = subprocess.Popen(
        [sys.executable, str(TRAINING), str(folder)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    if wait:
        assert process.wait(120) == 0
    return process


def test_killed_again_and_again_it_ends_with_the_same_weights(tmp_path: Path) -> None:
    whole = tmp_path / "whole"
    train(whole)
    killed, kills = tmp_path / "killed", 0
    rng = np.random.default_rng(3)
    while not (killed / "model.safetensors").exists():
        process = train(killed, wait=False)
        deadline = time.monotonic() + 60
        state, start = killed / "checkpoints" / "state.json", stamp(killed)
        while stamp(killed) == start and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.005)  # until it has got on at least one checkpoint
        time.sleep(float(rng.uniform(0, 0.05)))
        if process.poll() is None and kills < 2:
            process.send_signal(signal.SIGKILL)
            kills += 1
        process.wait(120)
        assert state.exists()
    assert kills == 2
    for name in ("model.safetensors", "history.json"):
        assert sha256_of(killed / name) == sha256_of(whole / name), name


def stamp(folder: Path) -> float:
    state = folder / "checkpoints" / "state.json"
    return state.stat().st_mtime_ns if state.exists() else 0.0
