"""More requests than the real Triton can answer: what it still answers, and how fast it says no.

    make bench-overload     QUICK=1: 10 s instead of 60; WORK=folder for the release;
                            SET=limits.queue=64 for the server; TIMES=5;
                            HOLD=1: the generator holds requests back as our clients do;
                            PIN=1: the server on one core, as in serve.py

The knee is the best rate of a closed loop. Then requests come at `TIMES` its rate, answered or not,
each with a deadline of 1 s, and after that at half of it for 10 s. The generator is bound to core
1, of which it takes some 5 %; the server has all cores. Generated shop of 12,000 items. Writes
build/bench/overload.json.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from features import machine
from serve import HERE, LOAD_CORE, OUT, QUICK, ROOT, SERVER_CORE, SETTINGS, WORK, load, pin
from serving.shops import generated, users_of

from tesserec.serving import triton

ITEMS, USERS, K = 12_000, 1000, 10
CALLERS = (16, 64)
TIMES = float(os.environ.get("TIMES") or 5)
SECONDS = 10 if QUICK else 60
RECOVERY_S = 10
DEADLINE_S = 1.0
HOLD = os.environ.get("HOLD") or "0"


def open_loop(url: str, phases: list[tuple[float, float]], asked: str) -> list[dict[str, Any]]:
    """The reports of the phases (rate, seconds), from another process."""
    command = [sys.executable, str(HERE / "open_loop.py"), url, triton.MODEL]
    command += [str(DEADLINE_S), HOLD]
    command += [f"{rate}:{seconds}" for rate, seconds in phases]
    limit = sum(seconds for _, seconds in phases) + 60
    done = subprocess.run(command, input=asked, capture_output=True, text=True, timeout=limit)
    if done.returncode:
        raise SystemExit(f"the load generator failed:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout)


def cpu_s(pids: list[int]) -> list[float]:
    """Processor seconds of each process."""
    ticks = os.sysconf("SC_CLK_TCK")
    fields = [Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split() for pid in pids]
    return [(int(one[11]) + int(one[12])) / ticks for one in fields]


def told(name: str, found: dict[str, Any], knee: float) -> str:
    def times(which: str) -> str:
        return " ".join(f"{key} {value:.1f}" for key, value in found[which].items()) or "none"

    return (
        f"{name}: asked {found['asked_per_second']:.0f}/s, "
        f"good {found['good_per_second']:.0f}/s ({found['good_per_second'] / knee:.0%} of the "
        f"knee); {found['codes']}, {found['unsent']} not sent\n"
        f"  good, ms: {times('good_ms')}\n  refused, ms: {times('rejected_ms')}\n"
        f"  longest time without an answer {found['longest_without_an_answer_ms']:.0f} ms; "
        f"all good after {found['all_good_after_s']:.2f} s"
    )


def main() -> None:
    OUT.mkdir(parents=True, exist_ok=True)
    workdir = WORK / f"generated-{ITEMS}"
    release = generated(workdir, ITEMS)
    asked = json.dumps({"users": users_of(workdir, USERS), "k": K})
    pin(SERVER_CORE if os.environ.get("PIN") else None)
    with triton.start(workdir, ROOT, release=release, settings=SETTINGS, publish=False) as server:
        pin(LOAD_CORE)
        loads = {callers: load(server.grpc, triton.MODEL, callers, asked) for callers in CALLERS}
        knee = max(found["per_second"] for found in loads.values())
        print("closed loop:", {n: round(one["per_second"]) for n, one in loads.items()}, flush=True)
        stub = Path(f"/proc/{server.process.pid}/task")
        pids = [server.process.pid]
        pids += [int(c) for p in stub.glob("*/children") for c in p.read_text().split()]
        before = cpu_s(pids)
        phases: list[tuple[float, float]] = [(TIMES * knee, SECONDS), (knee / 2, RECOVERY_S)]
        found = open_loop(server.grpc, phases, asked)
        spent = [b - a for a, b in zip(before, cpu_s(pids), strict=True)]
        server.check()
    names = ("overload", "half the knee")
    print(*(told(n, one, knee) for n, one in zip(names, found, strict=True)), sep="\n")
    print("processor seconds of server and model:", [round(s, 1) for s in spent])
    report = {"machine": machine(), "knee": knee, "phases": dict(zip(names, found, strict=True))}
    (OUT / "overload.json").write_text(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
