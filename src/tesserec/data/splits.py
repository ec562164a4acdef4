"""Which events of a user train, validate and test; events with equal times keep file order."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds

from tesserec.artifacts import Artifact
from tesserec.config import SplitConfig
from tesserec.data.compute import pc
from tesserec.data.schemas import SEQUENCES
from tesserec.errors import DataError, UsageError

NONE = -1  # this user has no such target


@dataclass(frozen=True)
class Sequences:
    """One ordered sequence a user; users are sorted by id, lists are aligned."""

    user_ids: list[str]
    item_ids: list[list[str]]
    timestamps: list[np.ndarray]  # int64 seconds; positions where the data have no times

    @property
    def events(self) -> int:
        return sum(len(items) for items in self.item_ids)


@dataclass(frozen=True)
class Split:
    """For user u: items[u][:train_end[u]] train, items[u][valid_at[u]] and items[u][test_at[u]] are
    targets, and a target's history is everything before it."""

    users: list[str]
    items: list[list[str]]
    train_end: np.ndarray  # int64 [U]
    valid_at: np.ndarray  # int64 [U], NONE where the user has no validation target
    test_at: np.ndarray  # int64 [U], NONE where the user has no test target

    def train(self, user: int) -> list[str]:
        """Items of the training sequence, oldest first."""
        return self.items[user][: self.train_end[user]]

    def valid(self, user: int) -> tuple[list[str], str] | None:
        """(history, target) of the validation, or None."""
        return self._target(user, int(self.valid_at[user]))

    def test(self, user: int) -> tuple[list[str], str] | None:
        """(history, target) of the test, or None."""
        return self._target(user, int(self.test_at[user]))

    def _target(self, user: int, at: int) -> tuple[list[str], str] | None:
        return None if at == NONE else (self.items[user][:at], self.items[user][at])


def load_sequences(features: Artifact) -> Sequences:
    """Read the `sequences` table of a features artefact, sorted by user id.

    Raises:
        DataError: a user occurs twice.
    """
    table = ds.dataset(features.file("sequences"), schema=SEQUENCES, format="parquet").to_table()
    table = table.take(pc.sort_indices(table, [("user_id", "ascending")]))
    users = table["user_id"].to_pylist()
    for before, user in itertools.pairwise(users):
        if before == user:
            raise DataError(
                f"user {user!r} has two sequences in {features.path}; run the features again"
            )
    times = _ragged(table["timestamps"])
    return Sequences(users, table["item_ids"].to_pylist(), times)


def split(sequences: Sequences, config: SplitConfig, summary: Mapping[str, Any]) -> Split:
    """Split sequences as `config.protocol` says; `summary` is that of the features artefact.

    Raises:
        UsageError: a time split of data without times.
    """
    if config.protocol == "leave_one_out":
        return leave_one_out(sequences)
    cut = (summary.get("cuts") or {}).get("train")
    if cut is None or summary.get("has_times") is False:
        raise UsageError(
            "split.protocol is 'time', but the data have no timestamps; use leave_one_out"
        )
    return time_split(sequences, int(cut))


def leave_one_out(sequences: Sequences) -> Split:
    """The last event tests, the last but one validates; with less than 3 events all train."""
    length = np.array([len(items) for items in sequences.item_ids], np.int64)
    enough = length >= 3
    return Split(
        sequences.user_ids,
        sequences.item_ids,
        np.where(enough, length - 2, length),
        np.where(enough, length - 2, NONE),
        np.where(enough, length - 1, NONE),
    )


def time_split(sequences: Sequences, cut: int) -> Split:
    """Events before `cut` train; a user's first event in either half of the rest is a target.

    The halves meet at the time of the middle event after the cut, and that event is of the second
    one. A target needs a history, so a user's very first event is none.
    """
    times = sequences.timestamps
    late = [t[np.searchsorted(t, cut) :] for t in times]
    rest = np.sort(np.concatenate(late)) if late else np.empty(0, np.int64)
    middle = int(rest[len(rest) // 2]) if len(rest) else cut
    train_end = np.array([np.searchsorted(t, cut) for t in times], np.int64)
    second = np.array([np.searchsorted(t, middle) for t in times], np.int64)
    length = np.array([len(t) for t in times], np.int64)
    valid_at = np.where((train_end < second) & (train_end > 0), train_end, NONE)
    test_at = np.where((second < length) & (second > 0), second, NONE)
    return Split(sequences.user_ids, sequences.item_ids, train_end, valid_at, test_at)


def _ragged(column: pa.ChunkedArray) -> list[np.ndarray]:
    whole = column.combine_chunks()
    flat = whole.flatten().to_numpy(zero_copy_only=False).astype(np.int64, copy=False)
    ends = np.cumsum(pc.list_value_length(whole).to_numpy(zero_copy_only=False).astype(np.int64))
    return np.split(flat, ends[:-1]) if len(ends) else []
