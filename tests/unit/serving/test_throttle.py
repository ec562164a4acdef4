"""What a client holds back while a server refuses, and how soon it asks again."""

from __future__ import annotations

import random

import pytest

from tesserec.serving.throttle import ALWAYS, BORNE, Throttle


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def told(throttle: Throttle, clock: Clock, *, rate: int, room: int, seconds: int) -> list[int]:
    """How many requests are sent in each second, of `rate`; the server takes `room` on."""
    counts = []
    for _ in range(seconds):
        sent = taken = 0
        for place in range(rate):
            clock.now += 1 / rate
            if not throttle.admits():
                continue
            sent += 1
            fits = taken < room * (place + 1) / rate
            taken += fits
            throttle.count(taken=fits)
        counts.append(sent)
    return counts


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_a_server_that_keeps_up_gets_everything(clock: Clock) -> None:
    throttle = Throttle(clock, random.Random(1).random)
    assert told(throttle, clock, rate=1000, room=1000, seconds=5) == [1000] * 5


def test_of_five_times_too_many_less_than_twice_the_room_is_sent(clock: Clock) -> None:
    throttle = Throttle(clock, random.Random(1).random)
    counts = told(throttle, clock, rate=5000, room=1000, seconds=20)
    assert all(1000 * (1 + BORNE) < n < 2000 for n in counts[5:]), counts


def test_when_the_load_falls_all_are_sent_after_a_second(clock: Clock) -> None:
    throttle = Throttle(clock, random.Random(1).random)
    told(throttle, clock, rate=5000, room=1000, seconds=20)
    counts = told(throttle, clock, rate=500, room=1000, seconds=3)
    assert counts[0] > 250 and counts[1:] == [500, 500], counts


def test_few_requests_are_never_held_back(clock: Clock) -> None:
    throttle = Throttle(clock, lambda: 0.0)
    for _ in range(int(ALWAYS)):
        assert throttle.admits()
        throttle.count(taken=False)
    assert throttle.admits()
    throttle.count(taken=False)
    assert not throttle.admits()
    clock.now += 1
    assert throttle.admits(), "a server that refused everything is asked again"
