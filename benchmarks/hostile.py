"""Hostile requests mixed with good ones at the real Triton: who fails, and what memory it costs.

    make bench-hostile        QUICK=1: 1,000 instead of 10,000

Hypothesis draws half of the hostile ones, the others come of a list; one in 100 is heavy (a million
items, 4 MB of rules). Each is sent beside a good one, whose answer must equal the offline one. A
first pass warms up; memory is that of the server and its stub. Those with a length beyond
their data are left out (docs/serving.md). Writes build/bench/hostile.json.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

import grpc

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.features import machine  # noqa: E402
from benchmarks.serving.hostile import Outcome, attack, memory_kib, message, mixture, packed  # noqa: E402
from tesserec.recommender import Recommender  # noqa: E402
from tesserec.release import promote, release_folder  # noqa: E402
from tesserec.serving.rehearsal import rankings  # noqa: E402
from tesserec.serving.triton import start  # noqa: E402
from tests.fakes.release import FakeReader, tiny_release  # noqa: E402

COUNT = 1_000 if os.environ.get("QUICK") else 10_000
PART = 500  # of which each has 5 heavy ones
WARM = 1_000  # before memory is looked at
LIMIT_S = 400
USERS = [f"U{n}" for n in range(180) if n % 9]


def models(folder: Path) -> Path:
    """Our model repository with features in memory: ready without importing Feast."""
    ours = ROOT / "serving" / "models" / "recommend"
    shutil.copytree(ours, folder / "recommend")
    path = folder / "recommend" / "1" / "model.py"
    head = f"import sys\nsys.path.insert(0, {str(ROOT)!r})\nimport tests.fakes.light\n"
    path.write_text(head + path.read_text())
    return folder


def main() -> None:
    folder = Path(tempfile.mkdtemp())
    workdir = folder / "work"
    release = tiny_release(workdir)
    promote(workdir, release)
    recommender = Recommender.load(release_folder(workdir, release))
    offline = rankings(recommender, FakeReader().read(USERS), 5)
    asked = [message(user_id=packed(user.encode())) for user in USERS]
    good = list(zip(asked, offline, strict=True))
    hostile = mixture(WARM + COUNT)  # drawing 5,000 takes a minute
    warm, hostile = hostile[:WARM], hostile[WARM:]
    with (
        start(workdir, ROOT, models=models(folder / "models"), publish=False) as server,
        grpc.insecure_channel(server.grpc) as channel,
    ):
        attack(channel, warm, good)
        before, began = memory_kib(server.process.pid), time.monotonic()
        outcome, course, after = Outcome(), [], before
        for place in range(0, COUNT, PART):
            attack(channel, hostile[place : place + PART], good, outcome)
            time.sleep(0.5)  # what is answered is not yet given back
            after = memory_kib(server.process.pid)
            course.append(round((after["resident"] - before["resident"]) / 1024, 1))
            if time.monotonic() - began > LIMIT_S:
                break
        seconds = time.monotonic() - began
        server.check()
    shutil.rmtree(folder)
    grown = {key: (after[key] - before[key]) / 1024 for key in ("resident", "shared")}
    print(f"{COUNT} hostile, {outcome.good} good, {seconds:.0f} s")
    print("hostile ones:", dict(outcome.codes), "faults:", outcome.faults[:3])
    print(f"good ones not right: {len(outcome.wrong)}", outcome.wrong[:3])
    print("resident memory, MiB more after each", PART, "hostile ones:", course)
    print(f"resident {before['resident'] / 1024:.1f} MiB, grown {grown['resident']:+.1f} MiB")
    print(f"shared {before['shared'] / 1024:.1f} MiB, grown {grown['shared']:+.1f} MiB")
    rows = [
        {
            "name": "hostile",
            "sizes": {"hostile": COUNT, "good": outcome.good},
            **grown,
            "course": course,
        }
    ]
    out = ROOT / "build" / "bench" / "hostile.json"
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps({"rows": rows, "machine": machine()}, indent=1))


if __name__ == "__main__":
    main()
