"""Windows: every event after the first is a target exactly once, with enough context."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tesserec.training.packing import CONTEXT, epoch_batches, make_batch, windows


@given(st.lists(st.integers(0, 260), min_size=1, max_size=8))
def test_each_target_once_and_25_items_before_it(lengths: list[int]) -> None:
    sequences = [np.arange(n) + 1000 * i for i, n in enumerate(lengths)]
    data = windows(sequences, 50)
    targets: list[int] = []
    for events, skip in zip(data.events, data.skip.tolist(), strict=True):
        assert 2 <= len(events) <= 51
        assert (np.diff(events) == 1).all()  # a piece of one sequence
        assert skip + 1 >= CONTEXT or events[0] % 1000 == 0
        targets += events[1 + skip :].tolist()
    assert sorted(targets) == [int(e) for s in sequences for e in s[1:]]
    assert data.targets == len(targets)


def test_batch_points_at_the_item_before_each_target() -> None:
    data = windows([np.arange(10, 80), np.array([1, 2]), np.array([5])], 50)
    batch = make_batch(data, np.arange(len(data.events)))
    inputs = batch.inputs.items.flatten()[batch.target_at]
    assert ((batch.target_items - inputs) == 1).all()
    assert sorted(batch.target_items.tolist()) == [2, *range(11, 80)]


def test_order_depends_on_seed_and_epoch_alone_and_can_start_in_the_middle() -> None:
    data = windows([np.array([i, i + 1]) for i in range(23)], 50)

    def order(seed: int, epoch: int, start: int = 0) -> list[list[int]]:
        batches = epoch_batches(data, batch=5, seed=seed, epoch=epoch, start=start)
        return [sorted(b.target_items.tolist()) for b in batches]

    whole = order(1, 0)
    assert [len(b) for b in whole] == [5, 5, 5, 5, 3]
    assert order(1, 0) == whole
    assert order(1, 0, start=3) == whole[3:]
    assert order(1, 1) != whole
    assert order(2, 0) != whole


def test_ranks_share_each_step() -> None:
    data = windows([np.array([i, i + 1]) for i in range(23)], 50)

    def targets(rank: int, ranks: int) -> list[set[int]]:
        parts = epoch_batches(data, batch=5, seed=1, epoch=0, rank=rank, ranks=ranks)
        return [set(b.target_items.tolist()) for b in parts]

    shares = [targets(rank, 4) for rank in range(4)]
    for step, whole in enumerate(targets(0, 1)):
        assert sorted(whole) == sorted(i for share in shares for i in share[step])
    assert [len(share[-1]) for share in shares] == [1, 1, 1, 0]  # three users for four ranks
