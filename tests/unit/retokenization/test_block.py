"""The newest block: what tunes, what judges, and where the next one begins."""

from __future__ import annotations

import numpy as np

from tesserec.data.splits import Sequences
from tesserec.retokenization.block import LEAST, newest_block

ROW_OF = {f"i{n}": n for n in range(10)}


def sequences(new: int) -> Sequences:
    """User a with 100 old events and `new` newer ones from second 1,000 on; b with two old ones."""
    times = np.array([*range(100), *range(1000, 1000 + new)])
    items = [f"i{n % 10}" for n in range(len(times))]
    return Sequences(["a", "b"], [items, ["i1", "gone"]], [times, np.array([5, 2000])])


def test_four_fifths_tune_and_the_rest_judges() -> None:
    block = newest_block(sequences(99), ROW_OF, since=1000)
    assert not block.known and block.since == 1000 and block.until == 1080
    assert [len(s) for s in block.sequences] == [180, 1] and block.starts == [100, 1]
    assert block.targets == 80
    # a's first event from `until` on, and b's, whose item nobody knows: a miss for everybody
    assert block.cases.users == ["a", "b"] and block.cases.targets.tolist() == [0, -1]
    assert len(block.cases.histories[0]) == 180
    assert block.cases.frequency.tolist() == [18, 0]
    again = newest_block(sequences(99), ROW_OF, since=block.until)
    assert again.since >= 1075 or again.known


def test_hardly_any_new_events_judge_by_known_ones_and_tune_nothing() -> None:
    block = newest_block(sequences(LEAST - 2), ROW_OF, since=1000)
    assert block.known and block.targets == 0
    assert block.since >= 1000 and len(block.cases) >= 1


def test_no_events_at_all() -> None:
    block = newest_block(Sequences([], [], []), ROW_OF, since=7)
    assert block.known and not len(block.cases) and block.until == 7
