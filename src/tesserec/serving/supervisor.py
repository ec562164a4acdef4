"""A server that is started again when it dies: Triton can abort, and memory can run out."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tesserec.errors import ServingError, TesserecError, UsageError
from tesserec.serving.ports import reserve
from tesserec.serving.server_file import write_server_file
from tesserec.serving.status import server_status
from tesserec.serving.triton import Stopped, TritonProcess

log = logging.getLogger(__name__)
Start = Callable[[Sequence[int], int], TritonProcess]  # of ports and the number of restarts
LOOK_S = 0.5


@dataclass(frozen=True, kw_only=True)
class Patience:
    """When a dead server is started again, and when no more.

    The first time at once; then each pause is twice the one before. A server that answered for
    `healthy_s` begins the count anew.
    """

    healthy_s: float = 120.0
    pause_s: float = 1.0  # before the second restart in a row
    longest_s: float = 30.0
    quick_deaths: int = 6  # in a row; then it is given up

    def pause_before(self, restart: int) -> float:
        """Seconds before the restart with this number in a row, counted from 1."""
        return min(self.pause_s * 2 ** (restart - 2), self.longest_s) if restart > 1 else 0.0


def supervise(
    begin: Start,
    wishes: Sequence[tuple[str, int]],
    stop: threading.Event,
    ready: Callable[[TritonProcess], None],
    patience: Patience | None = None,
) -> None:
    """Keep a server running until `stop` is set.

    The ports stay reserved all the time, so that no other program gets them between two servers.

    Args:
        begin: starts a server at these ports, or raises.
        wishes: (host, port) of gRPC, HTTP and metrics; port 0: a free one.
        ready: is told of the first server.

    Raises:
        UsageError: a wished port is taken.
        TesserecError: what `begin` raised the first time; a server that can't be started at all is
            no accident.
        ServingError: it died too often in too short a time.
    """
    try:
        with reserve(wishes) as ports:
            _Supervisor(begin, ports, stop, patience or Patience()).run(ready)
    except Stopped:
        return
    except OSError as error:
        raise UsageError(f"cannot start Triton: {error}") from None


class _Supervisor:
    def __init__(
        self, begin: Start, ports: Sequence[int], stop: threading.Event, patience: Patience
    ) -> None:
        self._begin, self._ports, self._stop, self._patience = begin, ports, stop, patience
        self._restarts = 0  # in all
        self._quick = 0  # deaths in a row, of servers that did not get old

    def run(self, ready: Callable[[TritonProcess], None]) -> None:
        server = self._begin(self._ports, 0)
        try:
            ready(server)
            while problem := self._watch(server):
                server.end()
                server = self._again(problem)
        finally:
            server.stop()

    def _watch(self, server: TritonProcess) -> str | None:
        """What it died of; None: it is to stop."""
        began = time.monotonic()
        while not self._stop.wait(LOOK_S):
            try:
                server.check()
            except ServingError as error:
                if time.monotonic() - began >= self._patience.healthy_s:
                    self._quick = 0
                return str(error)
            _tell_release(server)
        return None

    def _again(self, problem: str) -> TritonProcess:
        """The next server that gets ready."""
        while True:
            self._quick += 1
            if self._quick >= self._patience.quick_deaths:
                raise ServingError(
                    f"Triton died {self._quick} times in a row, each time within "
                    f"{self._patience.healthy_s:.0f} s, and isn't started again; the last time: "
                    f"{problem}"
                )
            pause_s = self._patience.pause_before(self._quick)
            self._restarts += 1
            first = problem.splitlines()[0]
            log.warning("%s; restart %d in %.0f s", first, self._restarts, pause_s)
            if self._stop.wait(pause_s):
                raise Stopped("told to stop before the next start")
            try:
                return self._begin(self._ports, self._restarts)
            except Stopped:
                raise
            except TesserecError as error:
                problem = str(error)


def _tell_release(server: TritonProcess) -> None:
    """Let `server.json` name the release that serves now."""
    status = server_status(server.workdir)
    if status and status["serving"] != server.info["release_id"]:
        server.info["release_id"] = status["serving"]
        write_server_file(server.workdir, server.info)
