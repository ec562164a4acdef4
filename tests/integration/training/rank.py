"""One rank of a small training; test_distributed.py launches it."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path

import numpy as np
from safetensors.torch import save_file

from tesserec.config import TrainingConfig
from tesserec.errors import UsageError
from tesserec.models.rpg import RPG, Shape
from tesserec.training.checkpoint import Checkpoints
from tesserec.training.launch import run_rank
from tesserec.training.loop import Progress, fit
from tesserec.training.packing import windows

ITEMS = 30


def work() -> None:
    folder, processes, fault = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    rank = int(os.environ.get("RANK", "0"))
    rng = np.random.default_rng(0)
    codes = rng.integers(0, 8, (ITEMS, 4)).astype(np.uint8)
    # 90 windows in batches of 16: the last step has 10, and lengths differ, so that shares differ
    walks = [(np.arange(n) * 3 + s) % ITEMS for n, s in rng.integers((2, 0), (60, ITEMS), (89, 2))]
    data = windows(walks, 50)
    shape = Shape(digits=4, codebook_size=8, dim=16, heads=2, ffn=16, dropout=0.0)
    model = RPG(shape, codes, seed=1)
    config = TrainingConfig(
        epochs=3,
        batch_users=16,
        learning_rate=0.001,
        threads=1,
        precision="fp32",
        device="cpu",
        eval_every=1,
        patience=1,
        processes=processes,
    )

    def validate(now: RPG) -> dict[str, float]:
        assert rank == 0
        if fault == "raise":
            raise UsageError("the validation has a fault of its own")
        time.sleep(0.3)  # the others wait
        growing = float(now.tokens.norm())
        return {"ndcg@10": -growing if fault == "stop" else growing}

    def note(now: Progress) -> None:
        assert rank == 0
        if now.step == 1 and not (folder / "gradients").exists():
            (folder / "gradients").mkdir()
            named = {k: p.grad.clone() for k, p in model.named_parameters() if p.grad is not None}
            save_file(named, folder / "gradients" / "first.safetensors")
        if now.step == 8 and fault == "kill" and not (folder / "killed").exists():
            (folder / "killed").touch()
            time.sleep(0.2)  # rank 1 waits for us inside the next step
            os.kill(int((folder / "pid-1").read_text()), signal.SIGKILL)
        (folder / "steps.txt").open("a").write(f"{now.step} {now.loss!r}\n")

    (folder / f"pid-{rank}").write_text(str(os.getpid()))
    history = fit(
        model,
        data,
        config,
        seed=1,
        validate=validate,
        checkpoints=Checkpoints(folder / "checkpoints", recipe="test", every_s=0.0),
        on_progress=note,
    )
    if rank == 0:
        (folder / "history.json").write_text(json.dumps(history))
    save_file(model.state_dict(), folder / f"weights-{rank}.safetensors")


run_rank(work)
