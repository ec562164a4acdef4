"""The same batches through the handler without any server, in a process of its own.

    python inprocess.py WORKDIR RELEASE THREADS SECONDS BATCH [BATCH ...] < requests

Runs in the serving environment, as the server's Python does. Standard input is that of load.py;
prints a JSON object: for each batch size users/s, seconds of a batch, and ms a user by stage.
"""

from __future__ import annotations

import json
import sys
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tesserec.config import ServeSettings
from tesserec.serving.handler import Handler

WARM = 0.2


class Stages:
    """A meter that keeps the seconds of each stage."""

    def __init__(self) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)

    def add(self, name: str, value: float = 1.0, **labels: str) -> None: ...

    def set(self, name: str, value: float, **labels: str) -> None: ...

    def close(self) -> None: ...

    def observe(self, name: str, value: float, **labels: str) -> None:
        if name == "tesserec_stage_seconds":
            self.seconds[labels["stage"]] += value


def tensors(user: str, k: int, rules: str) -> dict[str, np.ndarray]:
    values = {"user_id": user.encode(), "history": b"", "rules": rules.encode()}
    found = {name: np.array([[value]], np.object_) for name, value in values.items()}
    return found | {"k": np.array([[k]], np.int32)}


def measure(
    handler: Handler, stages: Stages, asked: list[dict[str, np.ndarray]], batch: int, seconds: float
) -> dict[str, Any]:
    spent: list[float] = []
    started = time.perf_counter()
    place, counted = 0, False
    while (now := time.perf_counter()) < started + seconds:
        if not counted and now > started + WARM * seconds:
            counted = True
            spent.clear()
            stages.seconds.clear()
        part = [asked[(place + i) % len(asked)] for i in range(batch)]
        place += batch
        began = time.perf_counter()
        answers = handler.recommend_tensors(part)
        spent.append(time.perf_counter() - began)
        bad = [a for a in answers if isinstance(a, Exception)]
        if bad:
            raise SystemExit(f"the handler answered with an error: {bad[0]}")
    users = batch * len(spent)
    return {
        "per_second": users / sum(spent),
        "p50_ms": 1000 * float(np.median(spent)),
        "stages_ms": {name: 1000 * s / users for name, s in stages.seconds.items()},
    }


def main() -> None:
    workdir, release, threads, seconds, *batches = sys.argv[1:]
    asked = json.load(sys.stdin)
    torch.set_num_threads(int(threads))
    stages = Stages()
    settings = ServeSettings(threads=int(threads))
    handler = Handler(Path(workdir), release or None, settings=settings, meter=stages)
    requests = [tensors(user, asked["k"], asked.get("rules", "")) for user in asked["users"]]
    print(
        json.dumps({b: measure(handler, stages, requests, int(b), float(seconds)) for b in batches})
    )
    handler.close()


if __name__ == "__main__":
    main()
