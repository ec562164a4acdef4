"""Batches made while the model works on the one before."""

from __future__ import annotations

import queue
import threading
from collections.abc import Generator, Iterator

import torch

from tesserec.models.packed import Batch

DEPTH = 2  # batches that wait; one is enough unless a step is quicker than its batch


def ahead(batches: Iterator[Batch], device: torch.device) -> Generator[Batch, None, None]:
    """The same batches on `device`, in the same order, made by a thread that runs ahead.

    The thread ends when the batches do or when the caller stops asking.
    """
    made: queue.Queue[Batch | BaseException | None] = queue.Queue(DEPTH)
    stopped = threading.Event()

    def put(thing: Batch | BaseException | None) -> bool:
        while not stopped.is_set():
            try:
                made.put(thing, timeout=0.1)
                return True
            except queue.Full:
                continue
        return False

    def work() -> None:
        try:
            for batch in batches:
                if not put(batch.pinned() if device.type == "cuda" else batch):
                    return
            put(None)
        except BaseException as error:  # raised again where the batch is asked for
            put(error)

    thread = threading.Thread(target=work, daemon=True, name="batches")
    thread.start()
    try:
        while (batch := made.get()) is not None:
            if isinstance(batch, BaseException):
                raise batch
            yield batch.to(device)
    finally:
        stopped.set()
        thread.join()
