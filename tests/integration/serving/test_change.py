"""Releases change in a real server under load: no request fails, none is answered wrongly."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tesserec.artifacts import write_atomic
from tesserec.recommender import Recommender
from tesserec.release import (
    CANARY,
    promote,
    promoted,
    read_pointer,
    release_folder,
    rollback,
    try_release,
)
from tesserec.serving.features import open_reader
from tesserec.serving.rehearsal import Ranking, difference, offline_rankings
from tesserec.serving.status import server_status
from tesserec.serving.triton import MODEL, TritonProcess

pytestmark = pytest.mark.triton
BENCHMARKS = Path(__file__).parents[3] / "benchmarks"
USERS = [f"U{n}" for n in range(100)]
K = 10


def wait(workdir: Path, what: Callable[[dict[str, Any]], bool]) -> None:
    deadline = time.monotonic() + 60
    while not what(status := server_status(workdir) or {}):
        assert time.monotonic() < deadline, status
        time.sleep(0.05)


def test_changes_under_load(shop: Any, server: TritonProcess) -> None:
    workdir, (first, second) = shop.workdir, shop.releases
    promote(workdir, first)
    wait(workdir, lambda s: s["serving"] == first)
    command = [sys.executable, str(BENCHMARKS / "serving" / "steady.py"), server.grpc, MODEL]
    pipe = subprocess.PIPE
    load = subprocess.Popen([*command, "4", "120"], stdin=pipe, stdout=pipe, text=True)
    assert load.stdin and load.stdout
    load.stdin.write(json.dumps({"users": USERS, "k": K}) + "\n")
    load.stdin.flush()
    assert load.stdout.readline().startswith("answers")
    file = release_folder(workdir, second) / "metrics.json"
    good, pointer = file.read_bytes(), read_pointer(workdir) or {}
    try:
        try_release(workdir, second, mode=CANARY, share=0.5)
        wait(workdir, lambda s: bool(s["second"]) and s["second"]["role"] == CANARY)
        time.sleep(1)
        promote(workdir, second)
        wait(workdir, lambda s: s["serving"] == second)
        time.sleep(0.5)
        rollback(workdir)
        wait(workdir, lambda s: s["serving"] == first)
        file.write_bytes(b"{}")  # damaged after somebody promoted it
        text = json.dumps({**pointer, "release_id": second, "promoted_at": "now"})
        write_atomic(workdir / "promoted", text)
        wait(workdir, lambda s: any(r["release_id"] == second for r in s["refused"]))
    finally:
        file.write_bytes(good)
        write_atomic(workdir / "promoted", json.dumps(pointer))
        result = json.loads(load.communicate(timeout=60)[0].splitlines()[-1])
    assert promoted(workdir) == first
    assert result["errors"] == {}
    reader = open_reader(workdir)
    offline = {}
    for release in (first, second):
        made = Recommender.load(release_folder(workdir, release))
        found = offline_rankings(made, reader, USERS, K)
        offline |= {(release, user): one for user, one in zip(USERS, found, strict=True)}
    for user, release, source, items, scores, _ in result["answers"]:
        assert source == "model"
        assert difference(Ranking(items, scores), offline[release, user]) is None, user
    assert {answer[1] for answer in result["answers"]} == {first, second}


@pytest.mark.slow
def test_the_benchmark_finds_nothing_wrong(project: Path, tmp_path: Path) -> None:
    """Eleven changes, a broken release, a corrupted file and two trials, under 3,000 requests."""
    environment = {**os.environ, "REQUESTS": "3000", "ITEMS": "1000", "CALLERS": "4"}
    environment |= {"WORK": str(tmp_path / "work"), "TESSEREC_PROJECT": str(project)}
    done = subprocess.run(
        [sys.executable, str(BENCHMARKS / "change.py")],
        env=environment,
        cwd=project,
        capture_output=True,
        text=True,
        timeout=550,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    found = json.loads(done.stdout[done.stdout.index("{\n") :])
    assert found["failed"] == found["wrong"] == 0 and found["requests"] >= 3000
    assert len(found["answers_by_release"]) >= 4
