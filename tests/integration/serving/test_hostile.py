"""Hostile requests among good ones, at a real server: it lives, answers right, and stays small."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from benchmarks.serving.hostile import (
    attack,
    known,
    memory_kib,
    message,
    mixture,
    overlong,
    packed,
)
from tesserec.recommender import Recommender
from tesserec.release import promote, release_folder
from tesserec.serving.rehearsal import Ranking, rankings
from tesserec.serving.triton import TritonProcess, start
from tests.fakes.release import FakeReader, tiny_release

pytestmark = pytest.mark.triton
PROJECT = Path(__file__).parents[3]
Good = list[tuple[Any, Ranking]]


@pytest.fixture(scope="module")
def attacked(
    tmp_path_factory: pytest.TempPathFactory, project: Path
) -> Iterator[tuple[TritonProcess, Any, Good]]:
    """A server with features in memory, a channel to it, and good requests with right answers."""
    folder = tmp_path_factory.mktemp("attacked")
    models, ours = folder / "models" / "recommend", project / "serving" / "models" / "recommend"
    (models / "1").mkdir(parents=True)
    (models / "config.pbtxt").write_text((ours / "config.pbtxt").read_text())
    head = f"import sys\nsys.path.insert(0, {str(PROJECT)!r})\nimport tests.fakes.light\n"
    (models / "1" / "model.py").write_text(head + (ours / "1" / "model.py").read_text())
    workdir = folder / "work"
    release = tiny_release(workdir)
    promote(workdir, release)
    users = [f"U{n}" for n in range(60) if n % 9]
    rows = FakeReader().read(users)
    offline = rankings(Recommender.load(release_folder(workdir, release)), rows, 5)
    asked = [message(user_id=packed(user.encode())) for user in users]
    good = list(zip(asked, offline, strict=True))
    with (
        start(workdir, project, models=models.parent, publish=False) as server,
        grpc.insecure_channel(server.grpc) as channel,
    ):
        yield server, channel, good


def test_each_known_attack_is_refused_alone(attacked: tuple[TritonProcess, Any, Good]) -> None:
    server, channel, good = attacked
    listed = [request for request in known() if not overlong(request)]
    outcome = attack(channel, listed, good)
    assert set(outcome.codes) == {"INVALID_ARGUMENT"}, outcome
    assert not outcome.wrong, outcome.wrong[:3]
    server.check()


def test_good_ones_are_answered_right_among_500_hostile_ones(
    attacked: tuple[TritonProcess, Any, Good],
) -> None:
    server, channel, good = attacked
    hostile = mixture(700)
    attack(channel, hostile[:200], good)
    time.sleep(1)  # what was answered last is given back
    before = memory_kib(server.process.pid)
    outcome = attack(channel, hostile[200:], good)
    time.sleep(1)
    after = memory_kib(server.process.pid)
    server.check()
    assert outcome.good == 500 and not outcome.wrong, outcome.wrong[:3]
    assert not outcome.faults, outcome.faults[:3]
    assert after["processes"] == before["processes"] == 2
    assert after["shared"] == before["shared"]
    # KiB; 372 were seen.
    assert after["resident"] <= before["resident"] + 5 * 1024


def test_a_length_beyond_the_data_is_refused_alone(
    attacked: tuple[TritonProcess, Any, Good],
) -> None:
    server, channel, good = attacked
    outcome = attack(channel, [r for r in known() if overlong(r)] * 50, good)
    server.check()
    assert not outcome.wrong
