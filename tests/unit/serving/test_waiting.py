"""The queue in front of the model: bounded, with deadlines, and nobody's fault is another's."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pytest

from tesserec.config import LimitSettings
from tesserec.errors import Overloaded, ServingError
from tesserec.serving.long_texts import TooLong
from tesserec.serving.meter import MemoryMeter
from tesserec.serving.waiting import WaitingRoom
from tesserec.serving.wire import COUNTED, MAX_RULES_BYTES, TEXT_BYTES, bytes_of

Answer = Callable[[Sequence[Any]], Sequence[Any]]


class Gate:
    """An answer function that waits until it is let go."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.entered, self.go = threading.Semaphore(0), threading.Semaphore(0)

    def __call__(self, batch: Sequence[Any]) -> list[Any]:
        numbers = [int(tensors["k"][0]) for tensors in batch]
        self.batches.append(numbers)
        self.entered.release()
        assert self.go.acquire(timeout=20)
        return [-n for n in numbers]


class Asked:
    """Sends requests into a room and keeps what comes back, in order of arrival."""

    def __init__(self, room: WaitingRoom) -> None:
        self.room = room
        self.back: queue.Queue[tuple[int, Any]] = queue.Queue()

    def send(self, number: int, *, gone: bool = False, timeout_s: float = 0.0) -> None:
        def reply(answer: Any) -> None:
            self.back.put((number, answer))

        refusal = self.room.refusal()
        if refusal:
            return reply(refusal)
        self.room.take_in(lambda: {"k": np.array([number])}, reply, lambda: gone, timeout_s)

    def get(self) -> tuple[int, Any]:
        return self.back.get(timeout=20)


@pytest.fixture
def made() -> Iterator[Callable[..., tuple[Asked, MemoryMeter]]]:
    rooms: list[WaitingRoom] = []

    def make(answer: Answer, **limits: Any) -> tuple[Asked, MemoryMeter]:
        meter = MemoryMeter()
        rooms.append(WaitingRoom(answer, LimitSettings(**limits), meter))
        return Asked(rooms[-1]), meter

    yield make
    for room in rooms:
        room.close()


def test_while_one_batch_is_answered_the_next_gathers(made: Any) -> None:
    gate = Gate()
    asked, _ = made(gate, batch=4)
    asked.send(1)
    assert gate.entered.acquire(timeout=20)
    for number in range(2, 8):
        asked.send(number)
    for _ in range(3):
        gate.go.release()
    assert [asked.get() for _ in range(7)] == [(n, -n) for n in range(1, 8)]
    assert gate.batches == [[1], [2, 3, 4, 5], [6, 7]]


def test_a_full_queue_refuses_at_once(made: Any) -> None:
    gate = Gate()
    asked, meter = made(gate, queue=2)
    asked.send(1)
    assert gate.entered.acquire(timeout=20)
    for number in (2, 3, 4):
        asked.send(number)
    number, refusal = asked.get()  # while the first batch is still in work
    assert number == 4 and isinstance(refusal, Overloaded) and "2 requests wait" in str(refusal)
    assert meter.values["tesserec_rejects_total", "full"] == 1
    for _ in range(2):
        gate.go.release()
    assert [asked.get()[0] for _ in range(3)] == [1, 2, 3]


def test_a_queue_that_holds_too_many_bytes_refuses_at_once(made: Any) -> None:
    gate = Gate()
    asked, meter = made(gate, queue_mib=1)
    back: queue.Queue[tuple[str, Any]] = queue.Queue()

    def send(name: str, size: int) -> None:
        history = np.array([[b"x" * size]], np.object_)
        tensors = {"k": np.array([7]), "history": history}
        asked.room.take_in(lambda: tensors, lambda a: back.put((name, a)), lambda: False)

    send("alone, however large", 3 << 20)
    assert gate.entered.acquire(timeout=20)
    send("beside it", 10)
    name, refusal = back.get(timeout=20)
    assert name == "beside it" and isinstance(refusal, Overloaded)
    assert "hold 1 MiB; try again later" in str(refusal)
    assert meter.values["tesserec_rejects_total", "full"] == 1
    gate.go.release()
    assert back.get(timeout=20) == ("alone, however large", -7)
    time.sleep(0.1)  # it is counted out after its answer is sent
    for n in range(3):
        send(f"small {n}", 300 << 10)
    send("too much", 300 << 10)
    assert back.get(timeout=20)[0] == "too much"
    for _ in range(3):
        gate.go.release()
    assert {back.get(timeout=20)[0] for _ in range(3)} == {f"small {n}" for n in range(3)}


def test_the_bytes_of_tensors() -> None:
    texts = np.array([[b"abc", b"d"]], np.object_)
    assert bytes_of({"k": np.zeros((1, 1), np.int32), "history": texts}) == 4 + 4 + 2 * TEXT_BYTES
    undecoded = TooLong().reshape((1, 10**6))
    assert bytes_of({"history": undecoded}) == MAX_RULES_BYTES
    assert bytes_of({"history": np.empty((1, 0), np.object_)}) == 0
    many = np.full((1, COUNTED + 1), b"", np.object_)
    assert bytes_of({"history": many}) > MAX_RULES_BYTES


def test_late_and_gone_requests_cost_no_answer(made: Any) -> None:
    gate = Gate()
    asked, meter = made(gate, queue_ms=5000)
    asked.send(1)
    assert gate.entered.acquire(timeout=20)
    asked.send(2, timeout_s=0.01)
    asked.send(3, gone=True)
    asked.send(4)
    time.sleep(0.15)  # longer than a client is taken to be there
    for _ in range(2):
        gate.go.release()
    found = dict(asked.get() for _ in range(4))
    assert found[1] == -1 and found[4] == -4
    assert isinstance(found[2], Overloaded) and isinstance(found[3], Overloaded)
    assert gate.batches == [[1], [4]]
    assert meter.values["tesserec_rejects_total", "late"] == 1
    assert meter.values["tesserec_rejects_total", "gone"] == 1


def test_the_servers_deadline_holds_for_patient_clients(made: Any) -> None:
    gate = Gate()
    asked, _ = made(gate, queue_ms=10)
    asked.send(1)
    assert gate.entered.acquire(timeout=20)
    asked.send(2, timeout_s=100)
    time.sleep(0.05)
    gate.go.release()
    assert asked.get() == (1, -1)
    assert isinstance(asked.get()[1], Overloaded)


def test_a_fault_of_ours_ends_a_batch_not_the_thread(made: Any) -> None:
    def answer(batch: Sequence[Any]) -> list[Any]:
        if batch[0]["k"][0] == 1:
            raise ZeroDivisionError
        return ["fine"] * len(batch)

    asked, _ = made(answer)
    asked.send(1)
    number, error = asked.get()
    assert number == 1 and isinstance(error, ServingError) and not isinstance(error, Overloaded)
    asked.send(2)
    assert asked.get() == (2, "fine")


def test_a_wrong_number_of_answers_is_an_error_for_each(made: Any) -> None:
    gate = Gate()

    def one_too_few(batch: Sequence[Any]) -> list[Any]:
        return gate(batch)[1:] if batch[0]["k"][0] == 1 else ["fine"] * len(batch)

    asked, _ = made(one_too_few)
    asked.send(1)
    gate.go.release()
    assert isinstance(asked.get()[1], ServingError)
    asked.send(2)
    assert asked.get() == (2, "fine")


def test_an_answer_that_nobody_takes_harms_no_other(made: Any) -> None:
    asked, _ = made(lambda batch: ["fine"] * len(batch))

    def broken(_: Any) -> None:
        raise ConnectionError

    asked.room.take_in(dict, broken, lambda: False)
    asked.send(2)
    assert asked.get() == (2, "fine")


def test_closing_answers_everyone(made: Any) -> None:
    gate = Gate()
    asked, _ = made(gate)
    asked.send(1)
    assert gate.entered.acquire(timeout=20)
    asked.send(2)
    closing = threading.Thread(target=asked.room.close)
    closing.start()
    number, refusal = asked.get()
    assert number == 2 and isinstance(refusal, Overloaded)
    gate.go.release()
    assert asked.get() == (1, -1)
    closing.join(20)
    asked.send(3)
    assert isinstance(asked.get()[1], Overloaded)
