"""Quality of the configurations: means over seeds, every ranker of a run in one table.

    make bench-quality        ROWS=beauty,sports SEEDS=1,2,3 DATA=folder; QUICK=1: generated shop

Each row is a `tesserec run` of its own in build/bench/quality/<row>-<seed>; one that was killed
goes on where it stood, one that is done costs seconds. DATA (default: data/) holds beauty2014/ and
the others (docs/data.md); a row whose data isn't there is told and left out. Prints a table in
Markdown (full ranking, one case a user, seen items kept and dropped), writes
build/bench/quality.json.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from features import machine

from tesserec.artifacts import open_artifact
from tesserec.evaluation.seeds import over_seeds

ROOT = Path(__file__).resolve().parents[1]
OUT = ROOT / "build" / "bench"
QUICK = bool(os.environ.get("QUICK"))
DATA = Path(os.environ.get("DATA") or ROOT / "data").resolve()
# row: configuration, folder of the data ("": generated), settings on top of the configuration
ROWS: dict[str, tuple[str, str, list[str]]] = {
    "shop": ("demo.yaml", "", []),
    "beauty": ("beauty.yaml", "beauty2014", ["model.name=fusion"]),
    "beauty_given": (
        "beauty.yaml",
        "beauty2014",
        ["tokenizer.name=given", "tokenizer.codes=text_codes_opq.npy", "tokenizer.digits=32"],
    ),
    "sports": ("sports.yaml", "sports2014", ["model.name=fusion"]),
    "games": ("games.yaml", "games2018", ["model.name=fusion"]),
    "ml100k": ("ml100k.yaml", "ml100k", ["model.name=fusion"]),
}
SEEDS = os.environ.get("SEEDS") or ("1" if QUICK else "1,2,3")
ASKED = os.environ.get("ROWS") or ("shop" if QUICK else ",".join(r for r in ROWS if r != "shop"))
METRICS = ("recall@5", "ndcg@5", "recall@10", "ndcg@10", "recall@50", "ndcg@50")
RESAMPLES = 1000


def run(row: str, seed: int) -> tuple[str, pa.Table]:
    """One run; the name of its model and the rank of every user's target by every ranker."""
    config, data, settings = ROWS[row]
    workdir = OUT / "quality" / f"{row}-{seed}"
    command = [sys.executable, "-m", "tesserec.cli", "run", str(ROOT / "configs" / config)]
    command += ["--workdir", str(workdir), "--json", f"seed={seed}", *settings]
    command += [f"data.path={DATA / data}"] if data else []
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    if done.returncode not in (0, 3):  # 3: a gate said no; the figures are there all the same
        raise SystemExit(f"row {row}, seed {seed}: tesserec run ended with {done.returncode}")
    found = json.loads(done.stdout)
    if found["metrics"] is None:
        raise SystemExit(f"row {row}, seed {seed}: {found.get('error')}")
    model = found["metrics"]["model"]
    metrics = max((workdir / "artifacts").glob("metrics-*"), key=lambda p: p.stat().st_mtime)
    return model, pq.read_table(open_artifact(metrics).file("per_user.parquet"))


def show(row: str, found: dict[str, Any]) -> None:
    print(f"\n### {row}: {found['users']:,} users, {found['seeds']} seed(s)\n")
    print("| ranker | seen | " + " | ".join(METRICS) + " | 95 % of ndcg@10 | deviation of seeds |")
    print("|---|---|" + "---:|" * (len(METRICS) + 2))
    for name, table in found["rankers"].items():
        for protocol in ("kept", "dropped"):
            values = table[protocol]
            low, high = values["ndcg@10_ci"]
            cells = [f"{values[m]:.4f}" for m in METRICS]
            cells += [f"{low:.4f} to {high:.4f}", f"{values['ndcg@10_sd']:.4f}"]
            print(f"| {name} | {protocol} | " + " | ".join(cells) + " |")
    for name, pair in found["paired"].items():
        low, high = pair["kept"]["ci"]
        gain = f"{pair['kept']['difference']:+.4f} ({low:+.4f} to {high:+.4f})"
        print(f"\nminus {name}, ndcg@10 kept: {gain}")


def compared(row: str, model: str, found: dict[str, Any]) -> list[dict[str, Any]]:
    """A line for each ranker beside ours, as all benchmarks write them."""
    sizes = {"users": found["users"], "seeds": found["seeds"]}
    ours = found["rankers"][model]
    return [
        {
            "name": f"{row}: {model} and {other}, seen {protocol}",
            "ours": ours[protocol]["ndcg@10"],
            "baseline": theirs[protocol]["ndcg@10"],
            "ratio": ours[protocol]["ndcg@10"] / max(theirs[protocol]["ndcg@10"], 1e-12),
            "unit": "ndcg@10",
            "sizes": sizes,
            "samples": found["seeds"],
        }
        for other, theirs in found["rankers"].items()
        if other != model
        for protocol in ("kept", "dropped")
    ]


def main() -> None:
    tables, rows = {}, []
    for row in ASKED.split(","):
        if row not in ROWS:
            raise SystemExit(f"ROWS names {row!r}; use some of {', '.join(ROWS)}")
        data = ROWS[row][1]
        if data and not (DATA / data / "interactions.parquet").exists():
            print(f"{row}: {DATA / data} has no interactions.parquet; left out (set DATA=folder)")
            continue
        runs = [run(row, int(seed)) for seed in SEEDS.split(",")]
        model = runs[0][0]
        found = over_seeds([t for _, t in runs], model, resamples=RESAMPLES, seed=0)
        tables[row] = {"model": model, "config": ROWS[row][0], **found}
        rows += compared(row, model, found)
        show(row, found)
    OUT.mkdir(parents=True, exist_ok=True)
    report = {"machine": machine(), "rows": rows, "tables": tables}
    (OUT / "quality.json").write_text(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
