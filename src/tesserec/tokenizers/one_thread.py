"""Fitting in one thread: sums in one order, whatever the core count."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tesserec.errors import need

MAX_TRAIN = 65_536  # vectors used to learn, as in faiss: 256 a centre


@contextmanager
def one_thread() -> Iterator[Any]:
    """faiss, while it and BLAS have one thread."""
    try:
        import faiss
        from threadpoolctl import threadpool_limits
    except ModuleNotFoundError:
        raise need("faiss", "train") from None
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    try:
        with threadpool_limits(1):
            yield faiss
    finally:
        faiss.omp_set_num_threads(before)
