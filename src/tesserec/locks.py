"""A lock on a folder that dies with its holder, whatever way the holder dies."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tesserec.errors import TesserecError


@contextmanager
def exclusive(path: Path, *, busy: str, wait: bool = False) -> Iterator[None]:
    """Hold the lock file `path`; a second holder is refused with the message `busy`, or waits.

    Raises:
        TesserecError: another live process holds it and `wait` is false; its pid is named.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            handle.seek(0)
            raise TesserecError(f"{busy} (process {handle.read().strip() or 'unknown'})") from None
        handle.truncate(0)
        handle.write(str(os.getpid()))
        handle.flush()
        yield


def share(path: Path) -> int:
    """Share the lock file `path` until this process ends, waiting for an exclusive holder.

    Returns the descriptor that holds it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    fcntl.flock(descriptor, fcntl.LOCK_SH)
    return descriptor


def is_free(path: Path, *, alone: bool = False) -> bool:
    """Whether nobody holds the lock file `path` exclusively (`alone`: nobody shares it either).

    A file that is not there is free.
    """
    try:
        with path.open() as handle:
            fcntl.flock(handle, (fcntl.LOCK_EX if alone else fcntl.LOCK_SH) | fcntl.LOCK_NB)
    except FileNotFoundError:
        return True
    except BlockingIOError:
        return False
    return True
