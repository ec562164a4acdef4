"""Training rows: every event after a user's first is a target once, and rows are packed.

The released RPG makes one more row of 50 for each event beyond the 51st, with one target each:
57 % of the positions on Beauty for under 1 % of the users. Here such users are cut into windows
whose targets don't overlap, and whose first target still sees 25 items.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from tesserec.models.packed import Batch, pack

CONTEXT = 25  # items before the first target of a later window


@dataclass(frozen=True)
class Windows:
    """Pieces of training sequences, at most positions + 1 events long."""

    events: list[
        np.ndarray
    ]  # int64 item rows; inputs are all but the last, targets all but the first
    skip: np.ndarray  # int64 [n] leading targets that an earlier window has already

    @property
    def targets(self) -> int:
        return sum(len(e) - 1 for e in self.events) - int(self.skip.sum())


def windows(sequences: Sequence[np.ndarray], positions: int, context: int = CONTEXT) -> Windows:
    """Cut training sequences (item rows, oldest first) into windows; a lone event gives none."""
    events: list[np.ndarray] = []
    skip: list[int] = []
    context = min(context, positions)
    for sequence in sequences:
        if len(sequence) < 2:
            continue
        events.append(sequence[: positions + 1])
        skip.append(0)
        target = positions + 1
        while target < len(sequence):
            first = target - context
            events.append(sequence[first : first + positions + 1])
            skip.append(context - 1)
            target = first + positions + 1
    return Windows(events, np.array(skip, dtype=np.int64))


def make_batch(data: Windows, chosen: np.ndarray) -> Batch:
    """Pack the chosen windows into one training step's rows."""
    events = [data.events[i] for i in chosen]
    inputs, starts = pack([e[:-1] for e in events])
    at = [np.arange(s + k, s + len(e) - 1) for e, s, k in _zip(events, starts, data.skip[chosen])]
    items = [e[k + 1 :] for e, k in zip(events, data.skip[chosen].tolist(), strict=True)]
    none = np.empty(0, dtype=np.int64)
    return Batch(
        inputs,
        torch.from_numpy(np.concatenate([none, *at])),
        torch.from_numpy(np.concatenate([none, *items])),
    )


def epoch_batches(
    data: Windows,
    *,
    batch: int,
    seed: int,
    epoch: int,
    start: int = 0,
    rank: int = 0,
    ranks: int = 1,
) -> Iterator[Batch]:
    """The steps of one epoch from step `start` on; their order depends on (seed, epoch) alone.

    Of several ranks each gets its share of every step's windows; that may be none.
    """
    order = np.random.default_rng([seed, epoch]).permutation(len(data.events))
    for first in range(start * batch, len(order), batch):
        yield make_batch(data, order[first : first + batch][rank::ranks])


def _zip(
    events: list[np.ndarray], starts: np.ndarray, skip: np.ndarray
) -> Iterator[tuple[np.ndarray, int, int]]:
    return zip(events, starts.tolist(), skip.tolist(), strict=True)
