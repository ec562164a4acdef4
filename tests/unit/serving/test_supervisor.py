"""When a dead server is started again, and when no more; the real one: tests/integration."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from tesserec.errors import ServingError, UsageError
from tesserec.serving.supervisor import Patience, supervise
from tesserec.serving.triton import Stopped

ANY = [("127.0.0.1", 0)] * 3


class FakeServer:
    """Answers `looks` looks, then it is dead."""

    def __init__(self, workdir: Path, looks: int) -> None:
        self.workdir, self.looks = workdir, looks
        self.info: dict[str, Any] = {"release_id": "r1"}
        self.ended = self.stopped = 0

    def check(self) -> None:
        self.looks -= 1
        if self.looks < 0:
            raise ServingError("Triton ended with code -9\nits log")

    def end(self) -> None:
        self.ended += 1

    def stop(self) -> None:
        self.stopped += 1


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tesserec.serving.supervisor.LOOK_S", 0.001)


class Starts:
    """`begin` for the supervisor: what each start gives, a server or an error."""

    def __init__(self, *given: FakeServer | Exception | Callable[[], FakeServer]) -> None:
        self.given, self.calls = list(given), list[tuple[list[int], int]]()

    def __call__(self, ports: Sequence[int], restarts: int) -> Any:
        self.calls.append((list(ports), restarts))
        one = self.given.pop(0)
        if isinstance(one, Exception):
            raise one
        return one() if callable(one) else one


def test_it_is_started_again_at_the_same_ports(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    stop, first, ready = threading.Event(), FakeServer(tmp_path, 3), []
    last = FakeServer(tmp_path, 10**9)

    def third() -> FakeServer:
        threading.Timer(0.05, stop.set).start()
        return last

    starts = Starts(first, ServingError("not ready"), third)
    with caplog.at_level(logging.WARNING):
        supervise(starts, ANY, stop, ready.append, Patience(pause_s=0.01))
    assert [restarts for _, restarts in starts.calls] == [0, 1, 2]
    assert starts.calls[0][0] == starts.calls[1][0] == starts.calls[2][0]
    assert ready == [first] and first.ended == 1 and last.stopped == 1
    said = [record.getMessage() for record in caplog.records]
    assert said == [
        "Triton ended with code -9; restart 1 in 0 s",
        "not ready; restart 2 in 0 s",
    ]


def test_it_is_given_up_after_quick_deaths_in_a_row(tmp_path: Path) -> None:
    servers = [FakeServer(tmp_path, 1) for _ in range(3)]
    starts = Starts(*servers)
    patience = Patience(pause_s=0.001, quick_deaths=3)
    with pytest.raises(ServingError, match=r"died 3 times in a row.*code -9\nits log"):
        supervise(starts, ANY, threading.Event(), lambda _: None, patience)
    assert len(starts.calls) == 3 and servers[-1].stopped == 1, "server.json is left"


def test_a_server_that_got_old_begins_the_count_anew(tmp_path: Path) -> None:
    starts = Starts(*[FakeServer(tmp_path, 1) for _ in range(20)], UsageError("enough"))
    patience = Patience(pause_s=60, healthy_s=0, quick_deaths=2)
    with pytest.raises(ServingError, match=r"died 2 times in a row.* enough"):
        supervise(starts, ANY, threading.Event(), lambda _: None, patience)
    assert len(starts.calls) == 21


def test_the_first_start_is_no_accident() -> None:
    starts = Starts(UsageError("no release is promoted"))
    with pytest.raises(UsageError, match="no release"):
        supervise(starts, ANY, threading.Event(), lambda _: None)
    assert len(starts.calls) == 1


def test_being_told_to_stop_is_no_error(tmp_path: Path) -> None:
    stop = threading.Event()
    supervise(Starts(Stopped("now")), ANY, stop, lambda _: None)
    server = FakeServer(tmp_path, 1)
    starts = Starts(server, ServingError("again"))
    threading.Timer(0.1, stop.set).start()
    supervise(starts, ANY, stop, lambda _: None, Patience(pause_s=60, longest_s=60))
    assert len(starts.calls) == 2 and server.stopped == 1


def test_pauses_grow_and_are_bounded() -> None:
    pauses = [Patience().pause_before(n) for n in range(1, 9)]
    assert pauses == [0, 1, 2, 4, 8, 16, 30, 30]
