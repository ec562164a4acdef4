"""What rules add to a request: milliseconds of one alone, at 12 k and at 1 M items.

    make bench-rules            QUICK=1: 12 k items alone

Random codes of 32 digits, an untrained RPG, the exact scan; items with brands, categories, prices
and dates drawn at random. A request goes through everything behind the tensors (`answer`), of a
history of 20 items, k = 10. *First* is a server's first request with this rule, which indexes the
columns that it reads; *new* the first one with such a rule when the columns are indexed; *again*
one whose mask is remembered (median). Times are of the thread's own clock, on one core. Writes
build/bench/rules.json.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from features import machine

from tesserec.models.rpg import RPG, Shape
from tesserec.recommender import Recommender
from tesserec.serving.answering import answer
from tesserec.serving.catalogue import Catalogue
from tesserec.serving.loaded import Loaded
from tesserec.serving.request import Response, make_request

ROOT = Path(__file__).resolve().parents[1]
QUICK = bool(os.environ.get("QUICK"))
SIZES = (12_000,) if QUICK else (12_000, 1_000_000)
SAMPLES = 5 if QUICK else 15
DIGITS, CODES, DAY_S, NOW_S = 32, 256, 86_400, 1_790_000_000

# In the second column the same rule of another value, for the column *new*.
RULES: dict[str, tuple[dict[str, Any], ...]] = {
    "none": ({}, {}),
    "brand, .1 %": ({"allow": ["brand:B7"]}, {"allow": ["brand:B8"]}),
    "category, 2 %": ({"allow": ["category:L3"]}, {"allow": ["category:L4"]}),
    "price, half": ({"allow": ["price<=50"]}, {"allow": ["price<=50.5"]}),
    "listed_after, 10 %": (
        {"allow": [f"listed_after:{NOW_S - 100 * DAY_S}"]},
        {"allow": [f"listed_after:{NOW_S - 101 * DAY_S}"]},
    ),
    "all four": (
        {"allow": ["brand:B7", "category:L3", "price<=50", "listed_after:2024-06-01"]},
        {"allow": ["brand:B8", "category:L4", "price<=50.5", "listed_after:2024-06-02"]},
    ),
    "deny two": ({"deny": ["brand:B7", "price>50"]}, {"deny": ["brand:B8", "price>50.5"]}),
    "10 ids": ({"allow": [f"I{n}" for n in range(10)]},) * 2,
    "10,000 ids": ({"allow": [f"I{n}" for n in range(10_000)]},) * 2,
    "quota of 30 days": ({"quota_new": {"items": 3, "days": 30}},) * 2,
    "diversity 1 of 5,000": ({"diversity": 1},) * 2,
    "the same, k 1000": ({"diversity": 1},) * 2,
    "k 1000 of 100 leaves": (
        {"diversity": 1, "allow": ["category:L3"]},
        {"diversity": 1, "allow": ["category:L4"]},
    ),
    "seed": ({"seed": 1}, {"seed": 2}),
    "quota not to be met": (
        {"quota_new": {"items": 5, "days": 30}, "allow": ["listed_before:2025-01-01"]},
        {"quota_new": {"items": 5, "days": 30}, "allow": ["listed_before:2025-01-02"]},
    ),
    "explain": ({"explain": True},) * 2,
}


def items_of(items: int, rng: np.random.Generator) -> pa.Table:
    """All facts of items, drawn; 1,000 brands, 5,000 category paths of three levels."""
    paths = pa.array([f"L{n % 50} > M{n % 500} > N{n}" for n in range(5000)])
    leaf = paths.take(pa.array(rng.integers(0, 5000, items)))
    ids = pa.array(np.char.add("I", np.arange(items).astype(str)))
    return pa.table(
        {
            "item_id": ids,
            "title": ids,
            "brand": pa.array([f"B{n}" for n in range(1000)]).take(
                pa.array(rng.integers(0, 1000, items))
            ),
            "categories": pa.ListArray.from_arrays(np.arange(items + 1, dtype=np.int32), leaf),
            "price": pa.array(rng.random(items) * 100, mask=rng.random(items) < 0.1),
            "listed_at": pa.array(NOW_S - rng.integers(0, 1000 * DAY_S, items)),
            "available": pa.array(rng.random(items) < 0.98),
            "trained": pa.array(rng.random(items) < 0.95),
        }
    )


def made(items: int) -> Recommender:
    rng = np.random.default_rng(1)
    codes = rng.integers(0, CODES, (items, DIGITS), dtype=np.uint8)
    shape = Shape(digits=DIGITS, codebook_size=CODES, dim=64, layers=1, heads=2, ffn=64)
    table = items_of(items, rng)
    model = RPG(shape, codes, seed=1)
    found = Recommender.of_parts(model, codes, table["item_id"].to_pylist(), table)
    found.warm()
    return found


def clock(run: Callable[[], Any]) -> float:
    """Milliseconds."""
    started = time.thread_time()
    run()
    return 1e3 * (time.thread_time() - started)


def measure(recommender: Recommender, name: str) -> dict[str, float]:
    one, other = RULES[name]
    catalogue = Catalogue(recommender.items, recommender.row_of)
    loaded = Loaded("r1", recommender, None, catalogue)  # pyright: ignore[reportArgumentType]
    assert loaded.shown_bits is not None  # as after the warm-up of a server
    history = recommender.item_ids[:20]

    def ask(rules: dict[str, Any]) -> None:
        request = make_request("", history, 1000 if "k 1000" in name else 10, json.dumps(rules))
        (found,) = answer(loaded, [request], {}, now_s=NOW_S)
        assert isinstance(found, Response), found

    first, new = clock(lambda: ask(one)), clock(lambda: ask(other))
    again = float(np.median([clock(lambda: ask(one)) for _ in range(SAMPLES)]))
    return {"first": first, "new": new, "again": again}


def main() -> None:
    torch.set_num_threads(1)
    rows = []
    print(f"{'items':>10}  {'rule':22} {'first':>9} {'new':>9} {'again':>9}  ms")
    for items in SIZES:
        recommender = made(items)
        measure(recommender, "none")
        for name in RULES:
            ms = measure(recommender, name)
            rows.append({"items": items, "name": name, "unit": "ms", **ms})
            figures = " ".join(f"{ms[key]:9.2f}" for key in ("first", "new", "again"))
            print(f"{items:10,}  {name:22} {figures}", flush=True)
    out = ROOT / "build" / "bench" / "rules.json"
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps({"machine": machine(), "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
