"""The past in blocks: what was known at the end of each, and what came next.

Events are cut by time: a base, then equal updates of the rest. An item enters with its first event,
and rows go by entry, so that the catalogue of a block is the head of every later one. Nothing here
depends on what comes after the block that is asked for; edges are times, not shares.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds

from tesserec.artifacts import Artifact
from tesserec.data.compute import pc
from tesserec.data.schemas import INTERACTIONS, ITEMS
from tesserec.errors import DataError, UsageError

BASE = 0.6  # share of the events, in order of time
AGES = ("new", "last", "update", "base")  # of an item: this block, the one before, older ones, base


@dataclass(frozen=True)
class Asked:
    """Events of a block, each to be told from all that its user did before."""

    histories: list[np.ndarray]  # int64 item rows, oldest first
    targets: np.ndarray  # int64 [U]

    def __len__(self) -> int:
        return len(self.targets)


@dataclass(frozen=True)
class Timeline:
    """All events, by user; items in order of entry."""

    items: pa.Table  # columns of the data contract
    entered: np.ndarray  # int64 [N] seconds, rising
    rows: list[np.ndarray]  # of each user (users sorted by id), int64 item rows in order
    times: list[np.ndarray]  # int64 seconds, aligned
    edges: np.ndarray  # int64 [blocks + 1]: block b ends before edges[b]; 0 is the base

    @property
    def blocks(self) -> int:
        """Updates after the base."""
        return len(self.edges) - 1

    @cached_property
    def item_ids(self) -> list[str]:
        return self.items["item_id"].to_pylist()

    def known(self, block: int) -> int:
        """Items that have entered by the end of a block: the first rows."""
        return int(np.searchsorted(self.entered, self.edges[block]))

    def ends(self, block: int) -> list[int]:
        """How many events of each user lie before the end of a block; -1: before all blocks."""
        if block < 0:
            return [0] * len(self.times)
        return [int(np.searchsorted(t, self.edges[block])) for t in self.times]

    def sequences(self, block: int) -> list[np.ndarray]:
        """Each user's events up to the end of a block."""
        return [rows[:end] for rows, end in zip(self.rows, self.ends(block), strict=True)]

    def age(self, block: int) -> np.ndarray:
        """int64 [N known in the block]: index of AGES of each item, seen from a block from 1 on."""
        age = np.full(self.known(block), AGES.index("update"))
        age[: self.known(0)] = AGES.index("base")
        if block > 1:
            age[self.known(block - 2) : self.known(block - 1)] = AGES.index("last")
        age[self.known(block - 1) :] = AGES.index("new")
        return age

    def asked(self, block: int, cases: int, seed: int, *, new: bool = False) -> Asked:
        """At most so many events of a block, drawn by the seed; of its new items alone if `new`."""
        first = self.known(block - 1) if new else 0
        found = [
            (user, at)
            for user, (start, end) in enumerate(
                zip(self.ends(block - 1), self.ends(block), strict=True)
            )
            for at in range(max(start, 1), end)
            if self.rows[user][at] >= first
        ]
        rng = np.random.default_rng([seed, block, int(new)])
        if len(found) > cases:
            found = [found[i] for i in np.sort(rng.choice(len(found), cases, replace=False))]
        return Asked(
            [self.rows[user][:at] for user, at in found],
            np.array([self.rows[user][at] for user, at in found], dtype=np.int64),
        )


def read_timeline(raw: Artifact, blocks: int) -> Timeline:
    """The events and items of a raw artefact, cut into a base and so many updates.

    Raises:
        UsageError: fewer than two updates, or events without times.
        DataError: too few different times.
    """
    if blocks < 2:
        raise UsageError(f"--blocks is {blocks}; use at least 2: each block is tested on the next")
    events = ds.dataset(raw.file("interactions"), schema=INTERACTIONS, format="parquet").to_table()
    if events["timestamp"].null_count:
        raise UsageError("a replay needs times, and these events have none; use other data")
    items = ds.dataset(raw.file("items"), schema=ITEMS, format="parquet").to_table()
    return cut(events, items, edges_of(events["timestamp"].to_numpy(), blocks))


def edges_of(times: np.ndarray, blocks: int) -> np.ndarray:
    """Times at which the base and the updates end, int64 [blocks + 1]; the last is after all.

    Raises:
        DataError: two of them are the same time.
    """
    ordered = np.sort(times)
    shares = BASE + (1 - BASE) * np.arange(blocks) / blocks
    edges = np.append(ordered[(shares * len(ordered)).astype(np.int64)], ordered[-1] + 1)
    if (np.diff(edges) <= 0).any() or edges[0] == ordered[0]:
        raise DataError(
            f"{len(ordered)} events have too few different times for {blocks} updates; use fewer "
            "with --blocks"
        )
    return edges.astype(np.int64)


def cut(events: pa.Table, items: pa.Table, edges: Sequence[int] | np.ndarray) -> Timeline:
    """The timeline of events and items with given edges; items without an event are left out."""
    events = events.filter(pc.is_in(events["item_id"], value_set=items["item_id"]))
    events = events.sort_by(
        [("user_id", "ascending"), ("timestamp", "ascending"), ("position", "ascending")]
    )
    times = events["timestamp"].to_numpy()
    source = pc.index_in(events["item_id"], value_set=items["item_id"].combine_chunks()).to_numpy()
    first = np.full(items.num_rows, np.iinfo(np.int64).max)
    np.minimum.at(first, source, times)
    order = np.argsort(first, kind="stable")  # equal times: in the order of the source
    order = order[: int((first < np.iinfo(np.int64).max).sum())]
    row_of = np.full(items.num_rows, -1, dtype=np.int64)
    row_of[order] = np.arange(len(order))
    users = events["user_id"].combine_chunks().dictionary_encode().indices.to_numpy()
    ends = np.flatnonzero(np.diff(users)) + 1
    return Timeline(
        items.take(pa.array(order)),
        first[order],
        np.split(row_of[source], ends),
        np.split(times, ends),
        np.asarray(edges, dtype=np.int64),
    )
