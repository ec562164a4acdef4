"""Answers while the feature store is broken: a real Triton, a real Redis, a real SQLite file.

    make bench-degraded            QUICK=1: 3 s a phase

Redis is killed and started again, its answers come 2 s late, its data are lost; the SQLite file is
locked by a writer, and locked against readers. In each phase callers ask for users at random, half
of whom were served before. Writes build/bench/degraded.json.
"""

from __future__ import annotations

import json
import os
import random
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.serving.faults import LOCK_OUT, WRITE, Redis, SlowProxy, locked  # noqa: E402
from tesserec.config import RunConfig, from_dict  # noqa: E402
from tesserec.errors import ServingError  # noqa: E402
from tesserec.serving import triton  # noqa: E402
from tesserec.serving.client import Recommender  # noqa: E402

SECONDS = 3.0 if os.environ.get("QUICK") else 10.0
CALLERS = 4
USERS = 150  # of the shop; the first half is served before anything breaks
RULES = {"deny": ["brand:B1"]}
LATE_S = 2.0
SOURCES = ("model", "model_stale", "popular_in_category", "popular")


@dataclass
class Phase:
    """What callers saw while one thing was wrong."""

    name: str
    seconds: list[float] = field(default_factory=list)
    answers: list[tuple[str, Any]] = field(default_factory=list)  # user, answer
    errors: list[str] = field(default_factory=list)
    recovery_s: float | None = None  # from the fault's end to the first fresh row

    @property
    def sources(self) -> Counter[str]:
        return Counter(answer.source for _, answer in self.answers)

    def ms(self, quantile: float) -> float:
        return 1000 * float(np.quantile(self.seconds, quantile))

    def line(self) -> str:
        sources = " | ".join(str(self.sources[source]) for source in SOURCES)
        back = "" if self.recovery_s is None else f"{self.recovery_s:.2f}"
        times = f"{self.ms(0.5):.1f} | {self.ms(0.99):.1f} | {1000 * max(self.seconds):.1f}"
        count = len(self.answers) + len(self.errors)
        return f"| {self.name} | {count} | {len(self.errors)} | {times} | {sources} | {back} |"

    def row(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "ours": self.ms(0.99),
            "baseline": None,
            "ratio": None,
            "unit": "ms, p99",
            "sizes": {"requests": len(self.seconds), "callers": CALLERS},
            "samples": {
                "p50_ms": self.ms(0.5),
                "longest_ms": 1000 * max(self.seconds),
                "errors": self.errors[:10],
                "sources": self.sources,
                "recovery_s": self.recovery_s,
            },
        }


HEAD = (
    "| phase | requests | errors | p50 ms | p99 ms | longest ms | "
    + " | ".join(SOURCES)
    + " | back after s |\n|---|"
    + "---|" * 10
)


def ask(url: str, name: str, seconds: float, users: int = USERS) -> Phase:
    """Callers in threads ask one after the other; each its own connection."""
    phase, lock, until = Phase(name), threading.Lock(), time.monotonic() + seconds

    def call(number: int) -> None:
        rng = random.Random(number)
        with Recommender(url, timeout_s=10) as client:
            while time.monotonic() < until:
                user = f"U{rng.randrange(users)}"
                began = time.perf_counter()
                try:
                    answer, error = client.recommend(user_id=user, k=8, rules=RULES), None
                except ServingError as problem:
                    answer, error = None, str(problem)
                spent = time.perf_counter() - began
                with lock:
                    phase.seconds.append(spent)
                    if answer:
                        phase.answers.append((user, answer))
                    else:
                        phase.errors.append(str(error))

    threads = [threading.Thread(target=call, args=(n,)) for n in range(CALLERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(seconds + 30)
    return phase


def back_after(url: str, limit_s: float = 30.0) -> float:
    """Seconds until a user's row is a fresh one again."""
    began = time.monotonic()
    with Recommender(url, timeout_s=10) as client:
        while time.monotonic() - began < limit_s:
            if client.recommend(user_id="U5").source == "model":
                return time.monotonic() - began
            time.sleep(0.02)
    raise TimeoutError(f"no fresh row within {limit_s:.0f} s")


def push_and_ask(workdir: Path, url: str, user: str, item: str) -> None:
    """An event is in the next answer that has the store's row; a remembered row never hides it.

    Raises:
        RuntimeError: it isn't.
    """
    from tesserec.features.push import push_event

    push_event(workdir, user, item)
    with Recommender(url, timeout_s=10) as client:
        for _ in range(50):
            answer = client.recommend(user_id=user, k=8, rules={"explain": True})
            if answer.source == "model":
                if answer.history[-1:] != [item]:
                    raise RuntimeError(f"{item} was pushed, the history is {answer.history}")
                return
            time.sleep(0.1)
    raise RuntimeError(f"no fresh row of {user} within 50 requests")


@contextmanager
def variables(**values: str) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


MakeShop = Callable[[Path, Path, RunConfig], Any]
Told = Callable[[Phase], None]


def redis_drill(folder: Path, make_shop: MakeShop, seconds: float, told: Told) -> list[Phase]:
    """Kill, restart, slow down and empty the Redis behind a server."""
    redis = Redis(folder)
    proxy = SlowProxy(redis.port)
    phases: list[Phase] = []

    def add(phase: Phase) -> Phase:
        phases.append(phase)
        told(phase)
        return phase

    try:
        with variables(
            TESSEREC_REDIS=f"127.0.0.1:{proxy.port}",
            TESSEREC_REGISTRY=f"sqlite:///{folder}/registry.db",
        ):
            config = from_dict({"feature_store": "feature_store.cluster.yaml"})
            shop = make_shop(folder / "work", ROOT, config)
            redis.command("SAVE")
            with triton.start(shop.workdir, ROOT, publish=False) as server:
                add(ask(server.grpc, "Redis, all is well", seconds, USERS // 2))
                redis.kill()
                down = ask(server.grpc, "Redis is killed", seconds)
                redis.start()
                down.recovery_s = back_after(server.grpc)
                add(down)
                proxy.delay_s = LATE_S
                late = ask(server.grpc, f"Redis is {LATE_S:g} s late", seconds)
                proxy.delay_s = 0.0
                late.recovery_s = back_after(server.grpc)
                add(late)
                push_and_ask(shop.workdir, server.grpc, "U5", "I005")
                redis.command("FLUSHALL")
                add(ask(server.grpc, "Redis lost its data", seconds))
                push_and_ask(shop.workdir, server.grpc, "U7", "I006")
    finally:
        proxy.close()
        redis.kill()
    return phases


def sqlite_drill(folder: Path, make_shop: MakeShop, seconds: float, told: Told) -> list[Phase]:
    """Lock the SQLite file behind a server."""
    phases: list[Phase] = []

    def add(phase: Phase) -> None:
        phases.append(phase)
        told(phase)

    shop = make_shop(folder / "work", ROOT, RunConfig())
    store = shop.workdir / "feature_store" / "online.db"
    with triton.start(shop.workdir, ROOT, publish=False) as server:
        add(ask(server.grpc, "SQLite, all is well", seconds, USERS // 2))
        with locked(WRITE, store):
            add(ask(server.grpc, "SQLite, a writer has locked it", seconds))
        with locked(LOCK_OUT, Path(f"{store}-shm")):
            out = ask(server.grpc, "SQLite, locked against readers", seconds)
        out.recovery_s = back_after(server.grpc)
        add(out)
        push_and_ask(shop.workdir, server.grpc, "U5", "I005")
    return phases


def main() -> None:
    from tests.integration.serving.conftest import make_shop

    print(HEAD)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for name, drill in (("redis", redis_drill), ("sqlite", sqlite_drill)):
            place = Path(folder) / name
            place.mkdir()
            phases = drill(place, make_shop, SECONDS, lambda p: print(p.line(), flush=True))
            rows += [phase.row() for phase in phases]
    machine = {"cores": os.cpu_count(), "load": os.getloadavg()}
    target = ROOT / "build" / "bench" / "degraded.json"
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps({"machine": machine, "rows": rows}, indent=1))


if __name__ == "__main__":
    main()
