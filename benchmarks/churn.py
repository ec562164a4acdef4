"""What each policy of re-tokenization changes, and how well codes then fit: churn against error.

    make bench-churn     DATA=folder with beauty2014/ (else generated vectors); QUICK=1: few items
                         PLOT=docs/img/churn.png: the picture too

The codes of the first 60 % of items, by first interaction, are updated for the next 10 %. Both
tokenizers, every policy of `retokenization/policies.py`, some of them at other settings. Error is
the mean squared distance of a vector to what its code stands for, by the variance of the vectors.
Impressions are the interactions before the update. Fitting anew uses another seed, as it would.
Whitening knows the first 60 % alone. Writes build/bench/churn.json.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from features import machine

from tesserec.encoders.whitening import Whitening
from tesserec.retokenization.budget import Budget, within
from tesserec.retokenization.policies import Limits, State, Update, update
from tesserec.tokenizers.opq import OPQ
from tesserec.tokenizers.rqkmeans import RQKMeans

ROOT = Path(__file__).resolve().parents[1]
QUICK = bool(os.environ.get("QUICK"))
BEAUTY = Path(os.environ.get("DATA") or ROOT / "data") / "beauty2014"
PLOT = os.environ.get("PLOT")
SIZE = 64 if QUICK else 256
DIM = 128
# name in the table, policy, limits
ROWS: list[tuple[str, str, Limits]] = [
    ("frozen", "frozen", Limits()),
    ("ema", "ema", Limits()),
    ("warm, 1 pass", "warm", Limits(passes=1)),
    ("warm, 5 passes", "warm", Limits()),
    ("warm, 25 passes", "warm", Limits(passes=25)),
    ("hysteresis .10, no budget", "hysteresis", Limits(slack=0.10, budget=None)),
    ("hysteresis .25, no budget", "hysteresis", Limits(budget=None)),
    ("hysteresis .50, no budget", "hysteresis", Limits(slack=0.50, budget=None)),
    ("hysteresis .25, 5 % and 2 %", "hysteresis", Limits(budget=Budget())),
    ("rebuild", "rebuild", Limits()),
    ("aligned", "aligned", Limits()),
    ("paths", "paths", Limits()),
]


def beauty() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Vectors [N, D] by first interaction, the number of old ones last, impressions of these."""
    events = pq.read_table(BEAUTY / "interactions.parquet", columns=["item_id", "timestamp"])
    items = pq.read_table(BEAUTY / "items.parquet", columns=["item_id"])["item_id"].to_pylist()
    row_of = {item: row for row, item in enumerate(items)}
    rows = np.array([row_of[i] for i in events["item_id"].to_pylist()])
    times = events["timestamp"].to_numpy()
    first = np.full(len(items), np.iinfo(np.int64).max)
    np.minimum.at(first, rows, times)
    order = np.lexsort((np.arange(len(items)), first))[: int(0.7 * len(items))]
    old = order[: int(0.6 * len(items))]
    before = times < first[order[len(old)]]
    shown = np.bincount(rows[before], minlength=len(items))[old]
    vectors = np.load(BEAUTY / "text_embeddings_minilm.npy", allow_pickle=False)
    return vectors[old], vectors[order[len(old) :]], shown


def generated() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The same of items near 300 kinds, 30 of which no old item is of."""
    rng = np.random.default_rng(0)
    n = 1200 if QUICK else 6000
    kinds = rng.standard_normal((300, DIM))

    def items(count: int, of: int) -> np.ndarray:
        return kinds[rng.integers(0, of, count)] + 0.7 * rng.standard_normal((count, DIM))

    return items(n, 270), items(n // 6, 300), rng.zipf(1.6, n).clip(max=1000)


def measure(tokenizer: Any, old: np.ndarray, new: np.ndarray, shown: np.ndarray) -> list[Any]:
    """A row a policy."""
    tokenizer.fit(old, np.random.default_rng(1))
    state = State(tokenizer=tokenizer, vectors=old, codes=tokenizer.encode(old), shown=shown)
    rows = []
    for name, policy, limits in ROWS:
        if policy == "paths" and not tokenizer.hierarchical:
            continue
        started = time.process_time()
        done = update(policy, state, new, np.random.default_rng(2), limits)
        seconds = time.process_time() - started
        rows.append({"tokenizer": tokenizer.name, "policy": name, **figures(done, old, new)})
        rows[-1]["kept"] = within(Budget(), done.churn, tokenizer.hierarchical)
        rows[-1]["seconds"] = round(seconds, 2)
        print(line(rows[-1]), flush=True)
    for row in rows:
        row |= {"name": f"{row['tokenizer']} {row['policy']}", "unit": "error of all items"}
        row |= {"ours": row["error"], "baseline": rows[0]["error"], "samples": 1}
        row |= {"ratio": row["error"] / rows[0]["error"], "sizes": [len(old), len(new)]}
    return rows


def figures(done: Update, old: np.ndarray, new: np.ndarray) -> dict[str, float]:
    """Churn and errors of an update."""
    variance = float(((old - old.mean(axis=0)) ** 2).sum(axis=1).mean())
    errors = [done.tokenizer.errors(x, codes) for x, codes in ((old, done.old), (new, done.new))]
    return {
        "items": done.churn.items,
        "impressions": done.churn.impressions,
        "digits": done.churn.digits,
        "first": done.churn.by_digit[0],
        "relabel_free": float(np.mean(done.churn.relabel_free)),
        "error_old": float(errors[0].mean() / variance),
        "error_new": float(errors[1].mean() / variance),
        "error": float(np.concatenate(errors).mean() / variance),
    }


def line(row: dict[str, Any]) -> str:
    churn = " ".join(f"{100 * row[k]:6.1f}" for k in ("items", "impressions", "digits", "first"))
    errors = " ".join(f"{row[k]:6.4f}" for k in ("error_old", "error_new", "error"))
    return f"{row['tokenizer']:9s} {row['policy']:28s} {churn}   {errors} {row['seconds']:6.1f}"


def draw(rows: list[dict[str, Any]], path: Path) -> None:
    """A panel a tokenizer: churn against the error of all items."""
    import matplotlib.pyplot as plt

    _, panels = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
    for panel, (name, key, title) in zip(
        panels,
        (("rqkmeans", "items", "changed items"), ("opq", "digits", "changed digits")),
        strict=True,
    ):
        own = [row for row in rows if row["tokenizer"] == name]
        for number, row in enumerate(own):
            panel.plot(100 * row[key], row["error"], "o^sDvPX*"[number % 8], label=row["policy"])
        panel.axvline(5, color="gray", linewidth=0.8, linestyle="--")
        panel.set(title=name, xlabel=f"{title}, %", ylabel="relative error, all items")
        panel.grid(alpha=0.3)
        panel.legend(fontsize=7)
    plt.savefig(path, dpi=110, metadata={"Software": None})


def main() -> None:
    there = (BEAUTY / "text_embeddings_minilm.npy").is_file() and not QUICK
    old, new, shown = beauty() if there else generated()
    whitening = Whitening(DIM)
    whitening.fit(old)
    old, new = whitening.apply(old), whitening.apply(new)
    where = "Amazon Beauty" if there else "generated vectors"
    print(f"{where}: {len(old)} old items, {len(new)} new")
    print(f"{'':38s}   churn: items imp. digits first   error: old new all   CPU s")
    rows = []
    for tokenizer in (RQKMeans(4, SIZE), OPQ(32, SIZE)):
        rows += measure(tokenizer, old, new, shown)
    cold = [row["items"] for row in rows if row["policy"] == "rebuild"]
    kept = [row for row in rows if row["policy"].endswith("2 %")]
    assert min(cold) > 0.98, f"a cold refit changed only {min(cold):.1%} of the items"
    assert all(row["kept"] for row in kept), "hysteresis went beyond its budget"
    out = ROOT / "build" / "bench" / "churn.json"
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps({"machine": machine(), "data": where, "rows": rows}, indent=1))
    if PLOT:
        draw(rows, ROOT / PLOT)


if __name__ == "__main__":
    main()
