"""Packing: every position once, nobody over the edge, few rows."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tesserec.models.packed import ROW_WIDTH, pack


@given(st.lists(st.integers(1, 50), min_size=1, max_size=60))
def test_every_history_lies_whole_in_one_row(lengths: list[int]) -> None:
    histories = [np.arange(n) + 100 * i for i, n in enumerate(lengths)]
    packed, starts = pack(histories)
    rows, width = packed.items.shape
    flat = packed.items.flatten().numpy()
    for index, (start, history) in enumerate(zip(starts.tolist(), histories, strict=True)):
        place = slice(start, start + len(history))
        assert start // width == (start + len(history) - 1) // width
        assert (flat[place] == history).all()
        assert (packed.positions.flatten().numpy()[place] == np.arange(len(history))).all()
        assert (packed.segments.flatten().numpy()[place] == index).all()
    assert (packed.segments >= 0).sum() == sum(lengths)
    assert width <= ROW_WIDTH
    assert rows * width <= 2 * max(sum(lengths), width)  # best fit leaves no two half-empty rows


def test_the_mask_is_causal_and_keeps_neighbours_apart() -> None:
    packed, _ = pack([np.array([1, 2, 3]), np.array([4, 5])], width=6)
    mask = packed.mask()[0, 0].numpy()
    segments = packed.segments[0].numpy()
    for query in range(len(segments)):
        for key in range(len(segments)):
            assert mask[query, key] == (segments[query] == segments[key] and key <= query)


def test_a_single_history_is_not_padded() -> None:
    assert pack([np.array([7, 8, 9])])[0].items.tolist() == [[7, 8, 9]]
