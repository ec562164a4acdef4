"""Promotions and roll-backs in a running server under a constant load: what fails, what is wrong.

    make bench-change    REQUESTS=50000 ITEMS=12000 CALLERS=32 WORK=folder; QUICK=1: 4,000 requests

The real Triton with a generated shop in a real feature store; releases with other weights, with
more items, one whose weights are no numbers and one with a corrupted file. A load generator in
another process asks all the time. Each answer is compared with what the release that it names
recommends to that user without any server. Exits 1 if one request failed or one answer is wrong.
Writes build/bench/change.json.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from features import machine
from serving.shops import generated, users_of
from serving.variants import more_items, of_nonsense, other_weights

from tesserec.config import ChangeSettings, LookupSettings, ServeSettings
from tesserec.recommender import Recommender
from tesserec.release import CANARY, SHADOW, promote, read_pointer, release_folder, rollback
from tesserec.release import try_release as try_it
from tesserec.release.pointer import pointer_lock, write_pointer
from tesserec.serving import triton
from tesserec.serving.features import open_reader
from tesserec.serving.rehearsal import Ranking, difference, offline_rankings
from tesserec.serving.status import server_status

ROOT = Path(__file__).resolve().parents[1]
OUT = ROOT / "build" / "bench"
QUICK = bool(os.environ.get("QUICK"))
REQUESTS = int(os.environ.get("REQUESTS") or (4_000 if QUICK else 50_000))
ITEMS = int(os.environ.get("ITEMS") or (2_000 if QUICK else 12_000))
CALLERS = int(os.environ.get("CALLERS") or 32)
WORK = Path(os.environ.get("WORK") or OUT / "change" / str(ITEMS)).resolve()
USERS, K = 300, 10
PATIENCE_S = 120.0  # for one change
LONGEST_S = 1_800.0  # the whole load


@dataclass
class Load:
    """The generator's process, and how many answers it has had."""

    process: subprocess.Popen[str]
    answers: int = 0
    result: dict[str, Any] = field(default_factory=dict)

    def follow(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.startswith("answers "):
                self.answers = int(line.split()[1])
            else:
                self.result = json.loads(line)

    def stop(self) -> dict[str, Any]:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(timeout=90)
        time.sleep(1)  # the reading thread takes the last line
        return self.result


@dataclass
class Bench:
    """One server, its load, and what happened to them."""

    workdir: Path
    load: Load
    rows: list[dict[str, Any]] = field(default_factory=list)

    def status(self) -> dict[str, Any]:
        return server_status(self.workdir) or {"serving": None, "second": None, "refused": []}

    def change(self, name: str, act: Callable[[], Any], done: Callable[[dict[str, Any]], bool]):
        """Do it, wait until the server has followed, then let a share of the requests pass."""
        began, before = time.monotonic(), self.load.answers
        act()
        while not done(status := self.status()):
            if time.monotonic() - began > PATIENCE_S or self.load.process.poll() is not None:
                raise SystemExit(f"{name}: not followed within {PATIENCE_S:.0f} s: {status}")
            time.sleep(0.05)
        seconds = time.monotonic() - began
        share = REQUESTS / STEPS
        until = max(self.load.answers, before) + share
        while self.load.answers < until and self.load.process.poll() is None:
            time.sleep(0.1)
        row = {"name": name, "seconds": round(seconds, 2), "rss_mib": rss(status["pid"])}
        self.rows.append(row | {"answers": self.load.answers - before})
        print(
            f"{name:<44} {seconds:8.2f} {row['rss_mib']:9.0f} {self.load.answers:10,}", flush=True
        )

    def serves(self, name: str, act: Callable[[], Any], release: str) -> None:
        self.change(name, act, lambda status: status["serving"] == release)

    def refuses(self, name: str, act: Callable[[], Any], release: str) -> None:
        """The release is refused, and the pointer goes back."""
        self.change(name, act, lambda s: any(row["release_id"] == release for row in s["refused"]))
        rollback(self.workdir)


STEPS = 15


def run(workdir: Path) -> dict[str, Any]:
    base = first_release(workdir)
    second, third = (other_weights(workdir, base, seed) for seed in (2, 3))
    grown, nonsense = more_items(workdir, base, 300), of_nonsense(workdir, base)
    broken = other_weights(workdir, base, 4)
    promote(workdir, base)
    users = users_of(workdir, USERS)
    settings = ServeSettings(
        change=ChangeSettings(agreement=0.0),  # untrained models: none agree
        features=LookupSettings(budget_ms=10_000),  # a late store gives degraded answers
    )
    with triton.start(workdir, ROOT, settings=settings) as server:
        load = begin(server.grpc, users)
        bench = Bench(workdir, load)
        try:
            steps(bench, base, second, third, grown, nonsense, broken)
        finally:
            result = load.stop()
    wrong = compared(workdir, users, result["answers"])
    return {**summary(result, wrong, bench.rows), "changes": bench.rows}


def first_release(workdir: Path) -> str:
    """The generated one, also if an earlier call of this benchmark left another one promoted."""
    note = workdir / "base"
    if not note.is_file():
        note.write_text(generated(workdir, ITEMS))
    return note.read_text()


def steps(
    b: Bench, base: str, second: str, third: str, grown: str, nonsense: str, broken: str
) -> None:
    """`STEPS` changes: 11 that serve another release, two that must not, two trials."""
    at = b.workdir
    print(f"{'change':<44} {'s':>8} {'MiB':>9} {'answers':>10}")
    b.serves("promote other weights", lambda: promote(at, second), second)
    b.serves("promote more items", lambda: promote(at, grown), grown)
    b.serves("roll back", lambda: rollback(at), second)
    b.refuses("promote weights that are no numbers", lambda: promote(at, nonsense), nonsense)
    b.change("canary 20 %", lambda: try_it(at, third, mode=CANARY, share=0.2), tried(third))
    b.serves("complete the canary", lambda: promote(at, third), third)
    b.serves("roll back", lambda: rollback(at), second)
    b.refuses("promote a release with a corrupted file", lambda: corrupted(at, broken), broken)
    b.serves("promote more items", lambda: promote(at, grown), grown)
    b.change("shadow", lambda: try_it(at, base, mode=SHADOW, share=1), tried(base))
    b.serves("promote another than the shadow", lambda: promote(at, third), third)
    b.serves("roll back", lambda: rollback(at), grown)
    b.serves("promote the first", lambda: promote(at, base), base)
    b.serves("roll back", lambda: rollback(at), grown)
    b.serves("promote other weights", lambda: promote(at, second), second)


def tried(release: str) -> Callable[[dict[str, Any]], bool]:
    return lambda status: bool(status["second"]) and status["second"]["release_id"] == release


def corrupted(workdir: Path, release: str) -> None:
    """The file is damaged after the promotion looked at it, and before the server does."""
    path = release_folder(workdir, release) / "models" / "rpg" / "model.safetensors"
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 255
    path.write_bytes(bytes(raw))
    with pointer_lock(workdir):
        pointer = read_pointer(workdir) or {}
        write_pointer(workdir, release, [*pointer["history"], pointer["release_id"]])


def begin(url: str, users: Sequence[str]) -> Load:
    command = [sys.executable, str(ROOT / "benchmarks" / "serving" / "steady.py"), url]
    command += [triton.MODEL, str(CALLERS), str(LONGEST_S)]
    pipe = subprocess.PIPE
    load = Load(subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True))
    assert load.process.stdin is not None
    load.process.stdin.write(json.dumps({"users": list(users), "k": K}) + "\n")
    load.process.stdin.flush()
    threading.Thread(target=load.follow, daemon=True).start()
    return load


def compared(workdir: Path, users: Sequence[str], answers: Sequence[Any]) -> list[str]:
    """Every different answer beside what its release recommends offline; a line a wrong one."""
    reader, offline = open_reader(workdir), {}
    for release in sorted({answer[1] for answer in answers}):
        recommender = Recommender.load(release_folder(workdir, release))
        found = offline_rankings(recommender, reader, users, K)
        offline |= {(release, user): one for user, one in zip(users, found, strict=True)}
    wrong = []
    for user, release, source, items, scores, times in answers:
        problem = difference(Ranking(items, scores), offline[release, user])
        if source != "model":
            problem = f"source {source}"
        if problem:
            wrong += [f"{user} {release}: {problem}"] * times
    return wrong


def summary(result: dict[str, Any], wrong: list[str], rows: list[dict[str, Any]]) -> dict[str, Any]:
    counts: dict[str, int] = {}
    for answer in result["answers"]:
        counts[answer[1]] = counts.get(answer[1], 0) + answer[5]
    return {
        "requests": result["requests"],
        "failed": sum(result["errors"].values()),
        "errors": result["errors"],
        "wrong": len(wrong),
        "wrong_first": wrong[:5],
        "different_answers": len(result["answers"]),
        "answers_by_release": counts,
        "latency_ms": result["latency_ms"],
        "longest_ms": result["longest_ms"],
        "seconds_max": max(row["seconds"] for row in rows),
        "rss_mib": [rows[0]["rss_mib"], max(r["rss_mib"] for r in rows), rows[-1]["rss_mib"]],
    }


def rss(pid: int) -> float:
    """MiB in memory of a process."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS"))


def main() -> None:
    found = run(WORK)
    OUT.mkdir(parents=True, exist_ok=True)
    (OUT / "change.json").write_text(json.dumps({"machine": machine(), **found}, indent=1))
    shown = {k: v for k, v in found.items() if k != "changes"}
    print(json.dumps(shown, indent=1))
    if found["failed"] or found["wrong"]:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
