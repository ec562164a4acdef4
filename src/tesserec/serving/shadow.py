"""Answers of the release in the second place beside those that were served, off their path."""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from tesserec.serving.answering import answer
from tesserec.serving.judge import Judge, failed
from tesserec.serving.loaded import Loaded
from tesserec.serving.meter import Meter
from tesserec.serving.request import Request, Response, chars_of

log = logging.getLogger(__name__)
WAITING = 64  # batches; more are dropped, and counted
WAITING_CHARS = 16_000_000  # that their requests name: one may have 2 MiB of rules
DUTY = 0.2  # of one core at most: the interpreter is shared with the requests
REST_S = 1.0  # at most after one batch
CLEAR_S = 10.0  # for the batch in work, when releases are to go


@dataclass(frozen=True)
class Job:
    """A batch as one release answered it, for the other one to answer too."""

    other: Loaded
    requests: Sequence[Request]
    found: Mapping[str, Any]  # the same rows of the feature store for both
    served: Sequence[Response]
    judge: Judge
    counts: bool  # the other one's answers count in its tally: it is a shadow

    @cached_property
    def chars(self) -> int:
        """Characters of what the requests name."""
        return sum(map(chars_of, self.requests))


class Shadow:
    """A thread that answers a second time and compares."""

    def __init__(self, meter: Meter) -> None:
        self._meter = meter
        self._chars = 0  # of the jobs that wait
        self._lock = threading.Lock()  # held while it changes
        self._jobs: queue.Queue[Job | None] = queue.Queue(WAITING)
        self._thread: threading.Thread | None = None
        self._busy = threading.Lock()  # held while a job is in work

    def offer(self, job: Job) -> None:
        """Never waits."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="shadow", daemon=True)
            self._thread.start()
        with self._lock, suppress(queue.Full):
            if not self._chars or self._chars + job.chars <= WAITING_CHARS:
                self._jobs.put_nowait(job)
                self._chars += job.chars
                return
        self._meter.add("tesserec_shadow_total", len(job.requests), outcome="dropped")

    def clear(self) -> None:
        """Forget what waits, and wait for what is in work: they hold on to releases."""
        with suppress(queue.Empty):
            while (job := self._jobs.get_nowait()) is not None:
                self._took(job)
            self._jobs.put_nowait(None)
        if self._busy.acquire(timeout=CLEAR_S):
            self._busy.release()

    def close(self) -> None:
        if self._thread is not None:
            self.clear()
            self._jobs.put(None)
            self._thread.join(timeout=5)

    def _took(self, job: Job) -> None:
        with self._lock:
            self._chars -= job.chars

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            self._took(job)
            began = time.perf_counter()
            with self._busy:
                try:
                    self._compare(job)
                except Exception:  # a fault here is none of the requests'
                    log.exception("answers could not be compared")
                del job
            time.sleep(min((time.perf_counter() - began) * (1 / DUTY - 1), REST_S))

    def _compare(self, job: Job) -> None:
        began = time.thread_time()
        answers = answer(job.other, job.requests, job.found)
        if job.counts:
            job.other.tally.count(answers, time.thread_time() - began)
        for ours, theirs in zip(job.served, answers, strict=True):
            if not isinstance(theirs, Response) or failed(theirs):
                self._meter.add("tesserec_shadow_total", outcome="failed")
                continue
            job.judge.compared(overlap(ours.item_ids, theirs.item_ids))
            same = list(ours.item_ids) == list(theirs.item_ids)
            self._meter.add("tesserec_shadow_total", outcome="equal" if same else "different")


def overlap(ours: Sequence[str], theirs: Sequence[str]) -> float:
    """The items that two lists share, as a share of the longer one; 1 for two empty ones."""
    longer = max(len(ours), len(theirs))
    return len(set(ours) & set(theirs)) / longer if longer else 1.0
