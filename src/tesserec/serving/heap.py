"""glibc's heap in the model's process, which inherits the server's settings for it."""

from __future__ import annotations

import ctypes
import gc
from contextlib import suppress

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3  # mallopt's names for them
# What glibc comes to by itself once a large block was freed: the largest that it knows.
MAPPED_FROM, KEPT = 32 << 20, 64 << 20


def keep_blocks() -> None:
    """Have blocks of up to 32 MiB come from the heap, and 64 MiB of it kept: a batch's arrays are
    then not mapped, and their pages not cleared, anew each time."""
    with suppress(OSError, AttributeError):  # a C library other than glibc
        library = ctypes.CDLL(None)
        library.mallopt(MMAP_THRESHOLD, MAPPED_FROM)
        library.mallopt(TRIM_THRESHOLD, KEPT)


def give_back() -> None:
    """Give freed memory back to the system."""
    gc.collect()
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
