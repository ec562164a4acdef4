"""Tuning: a trained model goes on, on the newest block of events and a little of what was before.

The code table may have grown or changed since (`RPG.grown`). Items newer than the model have no
vectors of their own: their codes speak for them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from tesserec.config import TrainingConfig, TuningConfig
from tesserec.errors import UsageError
from tesserec.training.checkpoint import Checkpoints
from tesserec.training.loop import OnProgress, fit
from tesserec.training.onward import Moments, Onward
from tesserec.training.packing import CONTEXT, Windows, windows

ALONE_STEPS = 100  # in which changed tokens move alone; at most a fifth of all steps


def block_windows(
    sequences: Sequence[np.ndarray],
    starts: Sequence[int],
    positions: int,
    context: int = CONTEXT,
) -> Windows:
    """Windows whose targets are each sequence's events from `starts` on, each event once.

    Their histories reach back to before the block, as far as a window of positions + 1 events goes.
    """
    events: list[np.ndarray] = []
    skip: list[int] = []
    context = min(context, positions)
    for sequence, start in zip(sequences, starts, strict=True):
        target = max(int(start), 1)  # a user's very first event has no history
        while target < len(sequence):
            # what is left in one window, with as long a history as that takes; else a part of it
            first = max(min(target - context, len(sequence) - positions - 1), 0)
            events.append(sequence[first : first + positions + 1])
            skip.append(target - 1 - first)
            target = first + positions + 1
    return Windows(events, np.array(skip, dtype=np.int64))


def with_replay(new: Windows, old: Windows, share: float, rng: np.random.Generator) -> Windows:
    """The new windows, and drawn old ones with `share` times as many targets as the new ones have.

    The last one drawn may go beyond that; all old ones where there are not as many.
    """
    sizes = np.array([len(e) - 1 for e in old.events], dtype=np.int64) - old.skip
    order = rng.permutation(len(sizes))
    before = np.cumsum(sizes[order]) - sizes[order]
    drawn = order[before < share * new.targets]
    events = [*new.events, *(old.events[i] for i in drawn)]
    return Windows(events, np.concatenate([new.skip, old.skip[drawn]]))


def tune(
    model: Any,
    sequences: Sequence[np.ndarray],
    starts: Sequence[int],
    training: TrainingConfig,
    tuning: TuningConfig,
    *,
    seed: int,
    changed: np.ndarray | None = None,
    moments: Moments | None = None,
    checkpoints: Checkpoints | None = None,
    on_progress: OnProgress | None = None,
) -> list[dict[str, Any]]:
    """Train `model` on in place; returns one line an epoch, none where the block has no targets.

    Killed, it goes on from `checkpoints` as `fit` does. It runs in one process: a block is small.

    Args:
        sequences: each user's events up to the end of the block, item rows, oldest first.
        starts: how many of them lie before the block.
        training: what tuning does not say itself: users a step, precision, threads.
        changed: bool [m, K], the codes that stand for other items than in training; for a few
            steps their tokens move alone.
        moments: of the optimiser that trained the model, where they were kept.

    Raises:
        UsageError: a model whose items have vectors of their own alone.
    """
    if model.name != "rpg":
        raise UsageError(
            f"model {model.name} can't be tuned on a block: it has no vectors for items that it "
            "was not trained on; train it anew, or use model.name=rpg"
        )
    positions = model.shape.positions
    new = block_windows(sequences, starts, positions)
    if not new.targets:
        return []
    old = windows([s[:n] for s, n in zip(sequences, starts, strict=True)], positions)
    rng = np.random.default_rng([seed, len(new.events)])
    data = with_replay(new, old, tuning.replay, rng)
    schedule = replace(
        training, epochs=tuning.epochs, learning_rate=tuning.learning_rate, processes=1
    )
    steps = -(-len(data.events) // schedule.batch_users) * schedule.epochs
    some = changed is not None and bool(changed.any())
    onward = Onward(
        moments=moments or {},
        changed={"tokens": torch.from_numpy(changed)} if changed is not None and some else {},
        alone_steps=min(ALONE_STEPS, steps // 5) if some else 0,
    )
    return fit(
        model,
        data,
        schedule,
        seed=seed,
        checkpoints=checkpoints,
        on_progress=on_progress,
        onward=onward,
    )
