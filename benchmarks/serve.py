"""Serving through the real Triton, beside the same batches without it and beside an echo.

    make bench-serve     DATA=folder with beauty2014/ (else a generated shop); QUICK=1: one arm
                         WORK=folder for the runs (default build/bench/serve);
                         SIZES=12000,1000000 or none; ARMS=rpg,graph,sasrec or none;
                         SET=limits.batch_delay_us=500 for the server

Server (and the in-process arm, which is measured while no server runs) on core 0, the load
generator on core 1. Closed loop: 1, 4, 16 and 64 callers, each asking anew when it was answered;
10 items, seen ones left out, the user's features read from the online store. Arms: RPG by the
exact scan, RPG by the graph, SASRec by exact inner product, and RPG over generated items by their
number. Writes build/bench/serve.json and pictures in build/bench/.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from features import machine
from serving.shops import generated, trained, users_of

from tesserec.config import load_serve_settings
from tesserec.serving import triton
from tesserec.serving.environment import find_environment

ROOT = Path(__file__).resolve().parents[1]
HERE = Path(__file__).resolve().parent / "serving"
OUT = ROOT / "build" / "bench"
QUICK = bool(os.environ.get("QUICK"))
WORK = Path(os.environ.get("WORK") or OUT / "serve").resolve()
DATA = Path(os.environ.get("DATA") or ROOT / "data").resolve()
SECONDS = 3.0 if QUICK else 8.0
CALLERS = (1, 16) if QUICK else (1, 4, 16, 64)
USERS, K = 1000, 10
EPOCHS = 4  # enough for a release that the gate lets pass; the speed hangs on the size
# arm: which run of the data it is of, and settings on top of its configuration
ARMS = {
    "rpg": ("rpg", []),
    "graph": ("rpg", ["decoder.name=graph"]),
    "sasrec": ("sasrec", ["model.name=sasrec"]),
}


def words(name: str, default: str) -> list[str]:
    """A list of the environment, `none` for an empty one."""
    return [word for word in os.environ.get(name, default).split(",") if word != "none"]


ASKED = words("ARMS", "rpg" if QUICK else ",".join(ARMS))
SIZES = [int(n) for n in words("SIZES", "none" if QUICK else "12000,100000,1000000")]
# the server is told these on top of its defaults, as `tesserec serve` is
SETTINGS = load_serve_settings(None, words("SET", "none"))
CORES = sorted(os.sched_getaffinity(0))
SERVER_CORE, LOAD_CORE = 0, 1  # places in it
HEAD = (
    f"{'arm':<12} {'callers':>7} {'served/s':>9} {'in proc./s':>10} {'share':>6} "
    f"{'p50':>8} {'p95':>8} {'p99':>8} {'alone p50':>9}  ms"
)


def pin(core: int | None) -> None:
    """This process and those that it starts from now on, to one core or to all."""
    os.sched_setaffinity(0, CORES if core is None else {CORES[core % len(CORES)]})


def load(url: str, model: str, callers: int, asked: str) -> dict[str, Any]:
    command = [sys.executable, str(HERE / "load.py"), url, model, str(callers), str(SECONDS)]
    done = subprocess.run(command, input=asked, capture_output=True, text=True, timeout=300)
    if done.returncode:
        raise SystemExit(f"the load generator failed:\n{done.stderr[-2000:]}")
    found = json.loads(done.stdout)
    if found["errors"]:
        raise SystemExit(f"{model} answered with errors: {found['errors']}")
    return found


def alone(workdir: Path, release: str, asked: str) -> dict[str, Any]:
    """The in-process arm, on the server's core, in the serving environment."""
    environment = find_environment(ROOT)
    command = [str(environment.folder / "bin" / "python"), str(HERE / "inprocess.py")]
    command += [str(workdir), release, str(SETTINGS.threads), str(SECONDS), *map(str, CALLERS)]
    pin(SERVER_CORE)
    done = subprocess.run(
        command,
        input=asked,
        capture_output=True,
        text=True,
        timeout=600,
        env=environment.variables(),
    )
    if done.returncode:
        raise SystemExit(f"the in-process arm failed:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout)


def echo_models(folder: Path) -> Path:
    """Our model repository with `echo` beside `recommend`, whose configuration it takes."""
    ours = ROOT / "serving" / "models" / triton.MODEL
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(ours, folder / triton.MODEL)
    shutil.copytree(HERE / "echo" / "1", folder / "echo" / "1")
    text = (ours / "config.pbtxt").read_text()
    (folder / "echo" / "config.pbtxt").write_text(text.replace('"recommend"', '"echo"', 1))
    return folder


def arm(
    name: str, workdir: Path, release: str, sizes: dict[str, Any], *, echo: bool = False
) -> list[dict[str, Any]]:
    asked = json.dumps({"users": users_of(workdir, USERS), "k": K})
    inside = alone(workdir, release, asked)
    pin(SERVER_CORE)
    models = echo_models(OUT / "serve-models")
    also = ["echo"] if echo else []
    with triton.start(
        workdir,
        ROOT,
        release=release,
        settings=SETTINGS,
        publish=False,
        models=models,
        also=also,
    ) as server:
        pin(LOAD_CORE)
        rows = []
        for callers in CALLERS:
            served = load(server.grpc, triton.MODEL, callers, asked)
            rows.append(row(name, callers, sizes, served, inside[str(callers)]))
        if echo:
            for callers in CALLERS:
                served = load(server.grpc, "echo", callers, asked)
                rows.append(row("echo", callers, sizes, served, None))
    return rows


def made_arm(name: str, data: Path | None) -> list[dict[str, Any]]:
    """An arm over a run's release: of real data, or of the generated shop."""
    run, settings = ARMS[name]
    pin(None)
    settings = [f"training.epochs={EPOCHS}", f"sasrec.training.epochs={EPOCHS}", *settings]
    settings += [f"data.path={data}"] if data else []
    workdir = WORK / f"{data.name if data else 'shop'}-{run}"
    release = trained(workdir, "beauty.yaml" if data else "demo.yaml", settings)
    sizes = {"data": data.name if data else "shop"}
    return arm(name, workdir, release, sizes, echo=name == "rpg")


def row(
    name: str,
    callers: int,
    sizes: dict[str, Any],
    served: dict[str, Any],
    inside: dict[str, Any] | None,
) -> dict[str, Any]:
    base = inside["per_second"] if inside else None
    print(
        f"{name:<12} {callers:>7} {served['per_second']:>9.0f} "
        + (f"{base:>10.0f} {served['per_second'] / base:>6.2f} " if base else f"{'':>10} {'':>6} ")
        + " ".join(f"{served[q]:>8.2f}" for q in ("p50_ms", "p95_ms", "p99_ms"))
        + (f" {inside['p50_ms']:>9.2f}" if inside else ""),
        flush=True,
    )
    return {
        "name": name,
        "ours": served["per_second"],
        "baseline": base,
        "ratio": served["per_second"] / base if base else None,
        "unit": "requests/s",
        "sizes": {**sizes, "callers": callers},
        "samples": {"served": served, "in_process": inside},
    }


def summary(rows: list[dict[str, Any]]) -> list[str]:
    """The knee, and what the server adds to one request."""
    mine = [r for r in rows if r["name"] == "rpg"]
    lone = {r["name"]: r for r in rows if r["sizes"]["callers"] == 1}
    lines = []
    if mine:
        knee = max(mine, key=lambda r: r["ours"])
        lines.append(
            f"knee at {knee['sizes']['callers']} callers: {knee['ours']:.0f} requests/s, "
            f"{knee['ratio']:.0%} of in-process"
        )
    if "echo" in lone and "rpg" in lone:
        served, inside = lone["rpg"]["samples"]["served"], lone["rpg"]["samples"]["in_process"]
        added = served["p50_ms"] - inside["p50_ms"]
        echo = lone["echo"]["samples"]["served"]["p50_ms"]
        lines.append(
            f"one caller: p50 {served['p50_ms']:.2f} ms, in-process {inside['p50_ms']:.2f}; "
            f"the server adds {added:.2f} ms, echo takes {echo:.2f}"
        )
    return lines


def plot(rows: list[dict[str, Any]]) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    sized = [r for r in rows if r["name"] == "generated"]
    if len({r["sizes"]["items"] for r in sized}) < 2:
        return
    figure, axes = plt.subplots(figsize=(7, 3.6))
    for callers in sorted({r["sizes"]["callers"] for r in sized}):
        part = [r for r in sized if r["sizes"]["callers"] == callers]
        items = [r["sizes"]["items"] for r in part]
        axes.plot(items, [1000 / r["ours"] for r in part], "o-", label=f"{callers} callers")
    axes.set(xscale="log", yscale="log", xlabel="items", ylabel="ms of a core a request")
    axes.legend(frameon=False, loc="upper left", bbox_to_anchor=(1, 1))
    figure.tight_layout()
    figure.savefig(OUT / "serve_items.png", dpi=110)


def main() -> None:
    OUT.mkdir(parents=True, exist_ok=True)
    beauty = DATA / "beauty2014"
    real = beauty.is_dir() and not QUICK
    if not real:
        print(f"the generated shop{'' if QUICK else f': there is no {beauty}'}")
    print(HEAD)
    rows: list[dict[str, Any]] = []
    try:
        for name in ASKED:
            rows += made_arm(name, beauty if real else None)
        for items in SIZES:
            workdir = WORK / f"generated-{items}"
            release = generated(workdir, items)
            rows += arm("generated", workdir, release, {"items": items, "digits": 32})
    finally:
        report = {"machine": machine(), "rows": rows, "summary": summary(rows)}
        (OUT / "serve.json").write_text(json.dumps(report, indent=1))
    print("\n".join(summary(rows)))
    plot(rows)


if __name__ == "__main__":
    main()
