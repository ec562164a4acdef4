"""What `bench-train` compares: ways to train, and the clock that times their steps."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tesserec.training.loop import Progress
from tesserec.training.packing import Windows


@dataclass
class Side:
    """One way to train, and the steps of it that were timed."""

    name: str
    kind: Any  # class of the model
    data: Windows
    bf16: bool
    seconds: list[float] = field(default_factory=list)
    cpu_seconds: list[float] = field(default_factory=list)

    def users_per_s(self, users: int, batch: int) -> float:
        """Users of an epoch / seconds of an epoch, from the median step."""
        return users * batch / len(self.data.events) / float(np.median(self.seconds))


class Clock:
    """Times and losses of the steps of one training."""

    def __init__(self) -> None:
        self.walls, self.cpus = [time.perf_counter()], [time.process_time()]
        self.losses: list[float] = []

    def step(self, loss: float) -> None:
        self.walls.append(time.perf_counter())
        self.cpus.append(time.process_time())
        self.losses.append(loss)

    def progress(self, now: Progress) -> None:
        if now.step > len(self.losses):  # the loop reports a finished epoch once more
            self.step(now.loss * now.step - sum(self.losses))

    def seconds(self) -> list[float]:
        return np.diff(self.walls).tolist()

    def cpu_seconds(self) -> list[float]:
        return np.diff(self.cpus).tolist()


def take(data: Windows, count: int, seed: int) -> Windows:
    """Windows drawn at random."""
    chosen = np.random.default_rng(seed).permutation(len(data.events))[:count]
    return Windows([data.events[i] for i in chosen], data.skip[chosen])
