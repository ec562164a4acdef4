"""Pushed events: visible at once, none lost among processes, old ones in their place."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tesserec.artifacts import Artifact
from tesserec.config import RunConfig
from tesserec.features import push as push_module
from tesserec.features.push import push_event
from tesserec.features.store import FeatureReader
from tesserec.features.sync import materialize
from tesserec.steps import feature_store
from tests.fakes.raw import Event

SCRIPT = Path(__file__).with_name("push_many.py")
FIRST = 1_700_000_000
PROCESSES, EVENTS = 8, 100


def log_of(workdir: Path) -> list[dict[str, object]]:
    lines = (workdir / "events" / "log.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def test_an_event_is_seen_by_the_next_read(tmp_path: Path, made: Artifact) -> None:
    reader = FeatureReader(tmp_path / "feature_store")
    (before,) = reader.read(["u1"])
    now = int(time.time())
    result = push_event(tmp_path, "u1", "fresh")
    assert result["pushed"] and abs(result["time"] - now) < 60
    (after,) = reader.read(["u1"])
    assert after.history == [*before.history, "fresh"][-50:]
    assert after.seen == before.seen | {"fresh"}
    push_event(tmp_path, "new user", "fresh", FIRST)
    (stranger,) = reader.read(["new user"])
    assert stranger.known and stranger.history == ["fresh"] and stranger.times == [FIRST]


def test_an_older_event_takes_its_place_and_a_repeated_delivery_counts_once(
    tmp_path: Path, made: Artifact
) -> None:
    for item, at in (("b", 20), ("a", 10), ("c", 30), ("a", 10), ("a", 25)):
        push_event(tmp_path, "someone", item, FIRST + at)
    (found,) = FeatureReader(tmp_path / "feature_store").read(["someone"])
    assert found.history == ["a", "b", "a", "c"]
    assert found.times == [FIRST + at for at in (10, 20, 25, 30)]
    assert len(log_of(tmp_path)) == 4


def test_events_that_a_run_has_read_are_not_shown_twice(
    tmp_path: Path,
    config: RunConfig,
    made: Artifact,
    make_features: Callable[[list[Event]], Artifact],
    events: list[Event],
) -> None:
    push_event(tmp_path, "u1", "i3", FIRST)
    push_event(tmp_path, "u1", "i4", FIRST + 1)
    reader = FeatureReader(tmp_path / "feature_store")
    (before,) = reader.read(["u1"])
    read: list[Event] = [*events, ("u1", "i3", FIRST, 900), ("u1", "i4", FIRST + 1, 901)]
    feature_store.run(tmp_path, config, make_features(read))
    assert reader.read(["u1"]) == [before]


def test_eight_processes_lose_no_event_while_a_snapshot_is_materialized(
    tmp_path: Path, made: Artifact
) -> None:
    command = [sys.executable, str(SCRIPT), str(tmp_path), "u1"]
    pushing = subprocess.Popen([*command, str(PROCESSES), str(EVENTS), str(FIRST)])
    epoch, end = datetime.fromtimestamp(0, UTC), datetime.fromtimestamp(FIRST, UTC)
    rounds = 0
    while pushing.poll() is None:
        materialize(tmp_path / "feature_store", epoch, end)
        rounds += 1
        time.sleep(0.5)
    assert pushing.returncode == 0 and rounds > 1

    logged = {(str(e["item_id"]), int(str(e["timestamp"]))) for e in log_of(tmp_path)}
    everything = {
        (f"p{p}e{n}", FIRST + n * PROCESSES + p) for p in range(PROCESSES) for n in range(EVENTS)
    }
    assert logged == everything and len(log_of(tmp_path)) == PROCESSES * EVENTS
    (found,) = FeatureReader(tmp_path / "feature_store").read(["u1"])
    last = sorted(everything, key=lambda e: e[1])[-50:]
    assert list(zip(found.history, found.times, strict=True)) == last


def test_threads_of_one_process_lose_no_event(tmp_path: Path, made: Artifact) -> None:
    def push(thread: int) -> None:
        for number in range(5):
            push_event(tmp_path, "u2", f"t{thread}e{number}", FIRST + thread * 5 + number)

    threads = [threading.Thread(target=push, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (found,) = FeatureReader(tmp_path / "feature_store").read(["u2"])
    assert found.times[-20:] == [FIRST + n for n in range(20)]


@pytest.mark.parametrize(
    "config",
    [pytest.param("feature_store.cluster.yaml", marks=pytest.mark.redis)],
    indirect=True,
)
def test_a_writer_whose_lock_ran_out_merges_again(
    tmp_path: Path, made: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On Redis a lock ends after a time; a write that outlived it may have lost another's."""
    monkeypatch.setattr(push_module, "REDIS_LOCK_S", 2)
    write, calls = push_module._write, []

    def slow(*arguments: object) -> None:
        if not calls:
            time.sleep(2.5)  # our lock runs out, and another writer comes between
            calls.append(1)
            monkeypatch.setattr(push_module, "_write", write)
            push_event(tmp_path, "u3", "theirs", FIRST + 1)
        write(*arguments)  # pyright: ignore[reportArgumentType]

    monkeypatch.setattr(push_module, "_write", slow)
    push_event(tmp_path, "u3", "ours", FIRST)
    (found,) = FeatureReader(tmp_path / "feature_store").read(["u3"])
    assert found.history[-2:] == ["ours", "theirs"]
    assert len(log_of(tmp_path)) == 2
