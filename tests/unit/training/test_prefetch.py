"""Batches made ahead are the same batches, and the thread that makes them ends."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import numpy as np
import pytest
import torch

from tesserec.models.packed import Batch
from tesserec.training.packing import epoch_batches, windows
from tesserec.training.prefetch import ahead

CPU = torch.device("cpu")


def batches() -> Iterator[Batch]:
    data = windows([np.array([i, i + 1]) for i in range(23)], 50)
    return epoch_batches(data, batch=5, seed=1, epoch=0)


def makers() -> int:
    return sum(thread.name == "batches" for thread in threading.enumerate())


def test_same_batches_in_the_same_order() -> None:
    pairs = zip(ahead(batches(), CPU), batches(), strict=True)
    assert all(torch.equal(a.target_items, b.target_items) for a, b in pairs)
    assert makers() == 0


def test_the_thread_ends_when_nobody_asks_any_more() -> None:
    asked = ahead(batches(), CPU)
    next(asked)
    assert makers() == 1
    asked.close()
    assert makers() == 0


def test_an_error_is_raised_where_the_batch_is_asked_for() -> None:
    def broken() -> Iterator[Batch]:
        yield next(batches())
        raise ValueError("no such item")

    asked = ahead(broken(), CPU)
    next(asked)
    with pytest.raises(ValueError, match="no such item"):
        next(asked)
    assert makers() == 0
