"""Requests that wait for the model: a bounded queue with deadlines, and a thread that answers.

Triton's own queue can be bounded too, but its batcher then misses wake-ups: now and then a request
waits half a second for nothing (docs/decisions.md). So its batcher hands over at once, and the
waiting is done here: beyond `limits.queue` requests or `limits.queue_mib` of them one is refused at
once, after `limits.queue_ms` (or the time that its client gave, if less) it is refused instead of
answered, and one whose client is gone costs nothing.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tesserec.config import LimitSettings
from tesserec.errors import Overloaded, ServingError
from tesserec.serving.meter import Meter
from tesserec.serving.quiet import Quiet
from tesserec.serving.wire import TRY_LATER, bytes_of

log = logging.getLogger(__name__)
complain = Quiet(log).error
Tensors = Mapping[str, np.ndarray]
CLOSE_S = 5.0
GONE_S = 0.1


@dataclass(frozen=True)
class Waiting:
    """One request in the queue; times are seconds of the monotonic clock."""

    tensors: Tensors
    size: int  # bytes of the tensors
    reply: Callable[[Any], None]  # takes output tensors or an error; called once
    gone: Callable[[], bool]  # whether its client no longer waits
    arrived: float
    until: float


class WaitingRoom:
    """Takes requests in from one thread and answers them in batches from another.

    Args:
        answer: output tensors or an error for each of a batch's input tensors.
        limits: of the queue and of a batch.
        meter: where the numbers go.
    """

    def __init__(
        self,
        answer: Callable[[Sequence[Tensors]], Sequence[Any]],
        limits: LimitSettings,
        meter: Meter,
    ) -> None:
        self._answer, self._limits, self._meter = answer, limits, meter
        self._queue: deque[Waiting] = deque()
        self._held = 0  # bytes of all that waits and is in work
        self._change = threading.Condition()
        self._closed = False
        self._full = Overloaded(f"{limits.queue} requests wait; {TRY_LATER}")
        self._thread = threading.Thread(target=self._work, name="answers", daemon=True)
        self._thread.start()

    def refusal(self) -> Overloaded | None:
        """Why the next request is refused at once, unread, if it is."""
        if len(self._queue) < self._limits.queue:
            return None
        self._meter.add("tesserec_rejects_total", reason="full")
        return self._full

    def take_in(
        self,
        read: Callable[[], Tensors],
        reply: Callable[[Any], None],
        gone: Callable[[], bool],
        timeout_s: float = 0.0,
    ) -> None:
        """Queue one request, after `refusal` gave none.

        Called by one thread alone. `timeout_s`: the client's own limit; 0 is none.
        """
        now = time.monotonic()
        wait_s = self._limits.queue_ms / 1000
        until = now + (min(timeout_s, wait_s) if timeout_s > 0 else wait_s)
        tensors = read()
        one = Waiting(tensors, bytes_of(tensors), reply, gone, now, until)
        with self._change:
            problem = self._problem(one)
            if not problem:
                self._queue.append(one)
                self._held += one.size
                self._change.notify()
        if problem:
            self._refuse(reply, "full", f"{problem}; {TRY_LATER}")

    def _problem(self, one: Waiting) -> str:
        """Why a request that was read isn't taken; one alone always is, however large."""
        most = self._limits.queue_mib
        if self._closed:
            return "the server is stopping"
        if self._held and self._held + one.size > most << 20:
            return f"the requests that wait hold {most} MiB"
        return ""

    def close(self) -> None:
        """Refuse what waits and end the thread; the batch in work is answered."""
        with self._change:
            self._closed = True
            rest = list(self._queue)
            self._queue.clear()
            self._change.notify()
        for one in rest:
            self._refuse(one.reply, "full", f"the server is stopping; {TRY_LATER}")
        self._thread.join(CLOSE_S)

    def _work(self) -> None:
        while True:
            batch = self._next()
            if batch is None:
                return
            began = time.monotonic()
            try:
                live = [one for one in batch if self._still(one, began)]
                for one, answer in zip(live, self._answers(live), strict=True):
                    self._meter.observe("tesserec_queue_seconds", began - one.arrived)
                    _reply(one.reply, answer)
            except Exception:  # without this thread every request would wait in vain
                log.exception("requests of a batch of %d may have got no answer", len(batch))
            with self._change:
                self._held -= sum(one.size for one in batch)

    def _answers(self, live: Sequence[Waiting]) -> Sequence[Any]:
        """One answer or error for each, whatever happens."""
        if not live:
            return []
        try:
            answers = self._answer([one.tensors for one in live])
            if len(answers) == len(live):
                return answers
            raise ServingError(f"{len(answers)} answers to {len(live)} requests")
        except Exception as error:
            log.exception("a batch of %d requests failed", len(live))
            return [ServingError(f"internal error: {type(error).__name__}")] * len(live)

    def _next(self) -> list[Waiting] | None:
        """The next batch; None when closed."""
        limits = self._limits
        with self._change:
            self._change.wait_for(lambda: self._queue or self._closed)
            if self._closed:
                return None
            if limits.batch_delay_us and len(self._queue) < limits.batch:
                self._change.wait_for(
                    lambda: len(self._queue) >= limits.batch or self._closed,
                    limits.batch_delay_us / 1e6,
                )
            size = min(limits.batch, len(self._queue))
            return [self._queue.popleft() for _ in range(size)]

    def _still(self, one: Waiting, now: float) -> bool:
        """Whether the request is worth an answer; if not, it has got its refusal."""
        if now > one.until:
            waited = 1000 * (now - one.arrived)
            self._refuse(one.reply, "late", f"waited {waited:.0f} ms in the queue; {TRY_LATER}")
            return False
        # asking costs a call to the server: not worth it for one that hardly waited
        if now - one.arrived > GONE_S and one.gone():
            self._refuse(one.reply, "gone", "the client is gone")
            return False
        return True

    def _refuse(self, reply: Callable[[Any], None], reason: str, message: str) -> None:
        self._meter.add("tesserec_rejects_total", reason=reason)
        _reply(reply, Overloaded(message))


def _reply(reply: Callable[[Any], None], answer: Any) -> None:
    try:
        reply(answer)
    except Exception:  # the client went away meanwhile, say; the others wait for theirs
        complain("an answer could not be sent", trace=True)
