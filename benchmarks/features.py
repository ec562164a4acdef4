"""The feature job on Beam beside polars in one process, at 200 k and 5 M interactions.

    make bench-features            QUICK=1: 200 k alone, one sample

Both write the same tables (cleaned events, sequences, histories, item statistics and profile) from
the same files, each in a process of its own, whose greatest memory is told; imports and the making
of the data are not timed. The polars side holds everything in one process's memory; the Beam side
is the one that a cluster can run. Writes build/bench/features.json.
"""

from __future__ import annotations

import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tesserec.config import FeatureConfig, SplitConfig
from tesserec.data.schemas import INTERACTIONS, ITEMS

ROOT = Path(__file__).resolve().parents[1]
DAY = 86_400
QUICK = bool(os.environ.get("QUICK"))
SIZES = (200_000,) if QUICK else (200_000, 5_000_000)
SAMPLES = 1 if QUICK else 3
FEATURES = FeatureConfig()


def make_raw(folder: Path, events: int) -> None:
    """Users with about 9 events (long tail), items by a power law, two years of times."""
    rng = np.random.default_rng(1)
    users, items = events // 9, max(events // 20, 1000)
    user = np.minimum(rng.exponential(users / 3, events).astype(np.int64), users - 1)
    item = (items * rng.random(events) ** 2.5).astype(np.int64)
    stamp = 1_600_000_000 + rng.integers(0, 730 * DAY, events)
    table = pa.table(
        [
            pa.array(np.char.add("user", user.astype(str))),
            pa.array(np.char.add("item", item.astype(str))),
            stamp,
            np.arange(events),
            pa.array(["interaction"]).take(pa.array(np.zeros(events, np.int64))),
        ],
        schema=INTERACTIONS,
    )
    ids = pa.array(np.char.add("item", np.arange(items).astype(str)))
    columns = {f.name: pa.nulls(items, f.type) for f in ITEMS} | {"item_id": ids, "title": ids}
    for name, whole in (("interactions", table), ("items", pa.table(columns, schema=ITEMS))):
        (folder / name).mkdir(parents=True)
        pq.write_table(whole, folder / name / "part-00000.parquet", row_group_size=100_000)


def run_beam(raw: Path, out: Path) -> None:
    from tesserec.features.job import run_job

    run_job(raw, out, FEATURES, SplitConfig())


def run_polars(raw: Path, out: Path) -> None:
    """The same tables by eager polars."""
    import polars as pl

    events = pl.read_parquet(raw / "interactions" / "*.parquet")
    order = ["user_id", "timestamp", "position", "item_id", "event_type"]
    events = events.unique().sort(order)
    events = events.with_columns(position=pl.int_range(pl.len()).over("user_id"))
    watermark = int(np.asarray(events["timestamp"]).max()) + 1
    lists = events.group_by("user_id", maintain_order=True)
    sequences = lists.agg(item_ids="item_id", timestamps="timestamp")
    seen = pl.col("item_id").reverse().unique(maintain_order=True).head(FEATURES.seen_limit)
    history = events.group_by("user_id", maintain_order=True).agg(
        item_ids=pl.col("item_id").tail(FEATURES.history_length),
        timestamps=pl.col("timestamp").tail(FEATURES.history_length),
        seen_items=seen,
    )
    time_ = pl.col("timestamp")
    columns: dict[str, Any] = {}
    for days in FEATURES.windows_days:
        now = time_ >= watermark - days * DAY
        before = (time_ >= watermark - 2 * days * DAY) & ~now
        columns |= {
            f"count_{days}d": now.sum(),
            f"users_{days}d": pl.col("user_id").filter(now).n_unique(),
            f"before_{days}d": before.sum(),
        }
    stats = events.group_by("item_id").agg(
        **columns,
        count_all=pl.len(),
        users_all=pl.col("user_id").n_unique(),
        first_seen=time_.min(),
        last_seen=time_.max(),
    )
    items = pl.read_parquet(raw / "items" / "*.parquet").with_row_index("row")
    profile = items.join(stats.select("item_id", "first_seen"), on="item_id", how="left")
    stats = items.select("item_id").join(stats, on="item_id", how="left").sort("item_id")
    for name, table in (
        ("interactions", events),
        ("sequences", sequences),
        ("user_history", history),
        ("item_profile", profile),
        ("item_stats", stats),
    ):
        table.write_parquet(out / f"{name}.parquet", compression="zstd")


def one(engine: str, raw: str, out: str) -> None:
    """In a process of its own: run one engine, print seconds and the greatest memory.

    The data are made in a process of their own too: a child's memory count starts at its parent's.
    """
    if engine == "make":
        return make_raw(Path(raw), int(out))
    import apache_beam  # noqa: F401  # pyright: ignore[reportUnusedImport]
    import polars  # noqa: F401  # pyright: ignore[reportUnusedImport]

    import tesserec.features.job  # noqa: F401  # pyright: ignore[reportUnusedImport]

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started = time.perf_counter()
    (run_beam if engine == "beam" else run_polars)(Path(raw), Path(out))
    seconds = time.perf_counter() - started
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(json.dumps({"seconds": seconds, "mib": after / 1024, "imports_mib": before / 1024}))


def measure(engine: str, raw: Path, scratch: Path) -> list[dict[str, float]]:
    found = []
    for sample in range(SAMPLES):
        out = scratch / f"{engine}-{sample}"
        out.mkdir()
        command = [sys.executable, __file__, engine, str(raw), str(out)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        found.append(json.loads(done.stdout.splitlines()[-1]))
    return found


def machine() -> dict[str, Any]:
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return {
        "platform": platform.platform(),
        "python": platform.python_version(),
        "cores": os.cpu_count(),
        "memory_gib": round(pages / 2**30, 1),
        "load": os.getloadavg()[0],
    }


def main() -> None:
    rows = []
    for events in SIZES:
        with tempfile.TemporaryDirectory() as folder:
            raw = Path(folder) / "raw"
            subprocess.run([sys.executable, __file__, "make", str(raw), str(events)], check=True)
            ours, theirs = (measure(e, raw, Path(folder)) for e in ("beam", "polars"))
        sizes = {"interactions": events}
        speed = [[events / s["seconds"] for s in found] for found in (ours, theirs)]
        memory = [[s["mib"] for s in found] for found in (ours, theirs)]
        for name, unit, (mine, other) in (
            ("feature job", "rows/s", speed),
            ("feature job, peak memory", "MiB", memory),
        ):
            a, b = float(np.median(mine)), float(np.median(other))
            row = {"name": name, "ours": a, "baseline": b, "ratio": a / b, "unit": unit}
            rows.append({**row, "sizes": sizes, "samples": {"ours": mine, "baseline": other}})
            print(f"{name:26} {events:>10,} {a:12,.0f} {b:12,.0f} {a / b:8.2f} {unit}")
    target = ROOT / "build" / "bench" / "features.json"
    target.parent.mkdir(parents=True, exist_ok=True)
    report = {"baseline": "polars, one process", "machine": machine(), "rows": rows}
    target.write_text(json.dumps(report, indent=1))


if __name__ == "__main__":
    if len(sys.argv) > 1:
        one(*sys.argv[1:])
    else:
        print(f"{'name':26} {'sizes':>10} {'ours':>12} {'polars':>12} {'ratio':>8} unit")
        main()
