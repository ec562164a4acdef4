"""A few threads for work that may hang; there are never more, and nothing waits for one."""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable

log = logging.getLogger(__name__)


class Workers:
    """Up to `count` daemon threads, started when they are first needed."""

    def __init__(self, count: int, name: str) -> None:
        self._count = count
        self._name = name
        self._lock = threading.Lock()
        self._threads: list[threading.Thread] = []
        self._busy = 0
        self._tasks: queue.SimpleQueue[Callable[[], object] | None] = queue.SimpleQueue()

    def start(self, task: Callable[[], object]) -> bool:
        """Run a task in a free thread; False if all are busy, or the system gives no more."""
        with self._lock:
            if self._busy == self._count:
                return False
            if self._busy == len(self._threads):
                name = f"{self._name}-{len(self._threads)}"
                thread = threading.Thread(target=self._work, name=name, daemon=True)
                try:
                    thread.start()
                except RuntimeError as error:
                    log.error("%s can't be started: %s", name, error)
                    return False
                self._threads.append(thread)
            self._busy += 1
        self._tasks.put(task)
        return True

    def close(self) -> None:
        """End the threads that are free; a hanging one ends after its task."""
        for _ in self._threads:
            self._tasks.put(None)

    def _work(self) -> None:
        while (task := self._tasks.get()) is not None:
            try:
                task()
            except Exception:
                log.exception("a task of %s failed", self._name)
            finally:
                del task  # it may hold rows
                with self._lock:
                    self._busy -= 1
