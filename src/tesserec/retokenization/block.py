"""The newest block of events: what the promoted model has not been trained on yet.

Its first four fifths (by time) tune the model, the last fifth judges the candidate beside the
promoted release; next time the block begins where this one's judging began. Where there are hardly
any new events, the last twentieth of the known ones is the block: it judges and doesn't tune.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from tesserec.data.splits import Sequences
from tesserec.evaluation.protocol import Cases

TUNED = 0.8  # share of the block's events that tune
LEAST = 50  # new events that make a block
KNOWN = 0.05  # share of all events that judges where there are fewer


@dataclass(frozen=True)
class Block:
    """Rows are those of a code table; users whom nothing is known of are left out."""

    sequences: list[np.ndarray]  # int64 item rows up to `until`, oldest first
    starts: list[int]  # events of each that lie before the block
    cases: Cases  # each user's first event from `until` on, after a history
    since: int  # seconds
    until: int  # seconds; the next block begins here
    known: bool  # the model has been trained on the block's events
    rows: np.ndarray  # int64, of all events, with `times`
    times: np.ndarray

    @property
    def targets(self) -> int:
        """Events that tune."""
        if self.known:
            return 0
        pairs = zip(self.sequences, self.starts, strict=True)
        return sum(max(len(s) - max(n, 1), 0) for s, n in pairs)


def newest_block(sequences: Sequences, row_of: Mapping[str, int], *, since: int) -> Block:
    """The events from `since` on (s), cut by time."""
    times = np.sort(np.concatenate([np.empty(0, np.int64), *sequences.timestamps]))
    few = len(times) - np.searchsorted(times, since) < LEAST
    if few and len(times):
        since = int(times[int(len(times) * (1 - KNOWN))])
    block = times[np.searchsorted(times, since) :]
    until = int(block[int(len(block) * TUNED)]) if len(block) else since
    events: list[np.ndarray] = []
    starts: list[int] = []
    asked: list[tuple[str, np.ndarray, int]] = []
    for user, items, moments in zip(
        sequences.user_ids, sequences.item_ids, sequences.timestamps, strict=True
    ):
        rows = np.array([row_of.get(item, -1) for item in items], np.int64)
        before, end = np.searchsorted(moments, [since, until])
        known = rows >= 0
        if known[:end].any():
            events.append(rows[:end][known[:end]])
            starts.append(int(known[:before].sum()))
        if end < len(rows) and known[:end].any():
            asked.append((user, rows[:end][known[:end]], int(rows[end])))
    targets = np.array([target for _, _, target in asked], np.int64)
    trained = np.zeros(len(row_of), np.int64)
    for rows in events:
        np.add.at(trained, rows, 1)
    flat = [i for items in sequences.item_ids for i in items]
    return Block(
        events,
        starts,
        Cases(
            users=[user for user, _, _ in asked],
            histories=[history for _, history, _ in asked],
            targets=targets,
            frequency=np.where(targets >= 0, trained[targets], 0),
        ),
        since,
        until,
        bool(few),
        np.array([row_of.get(item, -1) for item in flat], np.int64),
        np.concatenate([np.empty(0, np.int64), *sequences.timestamps]),
    )
