"""Exact decoding: our scan beside faiss and a naive gather, on the same codes and tables.

    make bench-decode            QUICK=1: up to 100 k items, m = 32, three samples

RPG's score is an inner product: table[j, c] = <token[j, c], query[j]> is what its heads compute,
and the softmax after it takes the same number from all items of a user. So a product quantizer
whose centroids are our token vectors and whose codes are ours ranks by our score, without training:
that is faiss's IndexPQ with the metric inner product. The run asserts that both give the same top
10. With a CUDA device the scan there is timed too (`decode_gpu.py`), at the largest size.

One core. Times are of the thread's own clock, so that other work on the machine weighs less. All
take turns; each turn runs once untimed, so that it doesn't pay for what the one before left in the
caches. `read` is a sum over the same bytes: over all of them once for one user, and for 64 users 64
times by spans that stay in second-level cache. It tells what reading the codes costs at all.
Writes build/bench/decode.json.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import torch
from decode_gpu import rows_on_gpu
from features import machine
from numba import njit

from tesserec.decoders.lanes import HAS_LOOKUP
from tesserec.decoders.scan import Scan
from tesserec.decoders.scan_kernels import SPAN

ROOT = Path(__file__).resolve().parents[1]
QUICK = bool(os.environ.get("QUICK"))
SIZES = (12_000, 100_000) if QUICK else (12_000, 100_000, 1_000_000, 10_000_000)
DIGITS = (32,) if QUICK else (16, 32, 64)
SAMPLES = 3 if QUICK else 7
K, DIM, TOP, USERS = 256, 8, 10, 64
SHORT = 0.005  # seconds that a sample takes at least
SLOW = 4e8  # look-ups of a baseline's batch beyond which it is timed on fewer users
HEAD = f"{'items':>10} {'m':>3} {'batch':>5} {'ours':>9} {'faiss':>9} {'gather':>9} ms/user"


def clock(run: Callable[[], Any]) -> float:
    """Seconds of one of as many runs as take 5 ms."""
    run()
    started, runs, spent = time.thread_time(), 0, 0.0
    while spent < SHORT:
        run()
        runs, spent = runs + 1, time.thread_time() - started
    return spent / runs


def make_case(digits: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, torch.Tensor]:
    """Token vectors [m, K, d], queries [B, m * d], and the tables [B, m, K] that they give."""
    tokens = rng.normal(size=(digits, K, DIM)).astype(np.float32)
    queries = rng.normal(size=(USERS, digits, DIM)).astype(np.float32)
    table = np.einsum("bjd,jkd->bjk", queries, tokens).astype(np.float32)
    return tokens, queries.reshape(USERS, -1), torch.from_numpy(table)


def faiss_index(tokens: np.ndarray, codes: np.ndarray) -> faiss.IndexPQ:
    """A product quantizer with our token vectors and our codes."""
    digits = len(tokens)
    index = faiss.IndexPQ(digits * DIM, digits, 8, faiss.METRIC_INNER_PRODUCT)
    faiss.copy_array_to_vector(tokens.ravel(), index.pq.centroids)
    index.is_trained = True
    index.add_sa_codes(codes)
    return index


def gather(table: torch.Tensor, codes: torch.Tensor) -> torch.Tensor:
    """What one writes first: for each user, all items' entries, summed; top k of that."""
    digit = torch.arange(codes.shape[1])
    best = []
    for user in table:
        parts = [user[digit, part.long()].sum(1) for part in codes.split(65_536)]
        best.append(torch.cat(parts).topk(TOP).indices)
    return torch.stack(best)


@njit(nogil=True)
def total(words: Any, turn: Any) -> Any:
    found = np.uint64(0)
    for i in range(len(words)):
        found += words[i] ^ turn
    return found


@njit(nogil=True)
def read(words: Any, span: int, times: int) -> Any:
    """Sum uint64 words, each span of them `times` times before the next."""
    found = np.uint64(0)
    for start in range(0, len(words), span):
        for turn in range(times):
            found += total(words[start : start + span], np.uint64(turn))
    return found


def same_items(scan: Scan, index: faiss.IndexPQ, queries: np.ndarray, table: torch.Tensor) -> None:
    """Our top 10 must be faiss's: the same rows wherever scores differ by more than rounding."""
    rows, scores = scan.rank(table, TOP)
    theirs, found = index.search(queries, TOP)
    np.testing.assert_allclose(scores, theirs, rtol=1e-4, atol=1e-3)
    for mine, other, score in zip(rows, found, scores, strict=True):
        alike = np.abs(np.diff(score, append=-np.inf, prepend=np.inf)) < 1e-3
        clear = ~(alike[:-1] | alike[1:])
        assert (mine[clear] == other[clear]).all(), (mine, other)


def measure(runs: dict[str, tuple[Callable[[], Any], int]]) -> dict[str, list[float]]:
    """Seconds a user of each (run, users in a run), in turns."""
    found: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(SAMPLES):
        for name, (run, users) in runs.items():
            found[name].append(clock(run) / users)
    return found


def rows_of(items: int, digits: int, rng: np.random.Generator) -> list[dict[str, Any]]:
    tokens, queries, table = make_case(digits, rng)
    codes = rng.integers(0, K, (items, digits), dtype=np.uint8)
    scan, index = Scan(codes, K), faiss_index(tokens, codes)
    tensor = torch.from_numpy(codes)
    words = codes.ravel()[: codes.size // 8 * 8].view(np.uint64)
    few = int(max(1, min(USERS, SLOW // codes.size)))  # users that the slow ones are timed on
    same_items(scan, index, queries[: max(few, 2)], table[: max(few, 2)])
    rows = []
    for batch in (1, USERS):
        theirs = min(batch, few)
        found = measure(
            {
                "ours": (lambda b=batch: scan.rank(table[:b], TOP), batch),
                "faiss": (lambda b=theirs: index.search(queries[:b], TOP), theirs),
                "gather": (lambda: gather(table[:1], tensor), 1),
                "read": (lambda b=batch: read(words, SPAN // 8, b), batch),
            },
        )
        rows.append(row_of(found, codes.size, {"items": items, "digits": digits, "batch": batch}))
    return rows


def row_of(found: dict[str, list[float]], size: int, sizes: dict[str, int]) -> dict[str, Any]:
    middle = {name: float(np.median(seconds)) for name, seconds in found.items()}
    row = {
        "name": "exact top 10",
        "ours": 1e3 * middle["ours"],
        "baseline": 1e3 * middle["faiss"],
        "ratio": middle["faiss"] / middle["ours"],
        "unit": "ms/user",
        "sizes": sizes,
        "samples": {name: [1e3 * s for s in seconds] for name, seconds in found.items()},
        "gather": 1e3 * middle["gather"],
        "ratio_to_gather": middle["gather"] / middle["ours"],
        "gigabytes_per_s": size / middle["ours"] / 1e9,
        "read_gigabytes_per_s": size / middle["read"] / 1e9,
        "share_of_reading": middle["read"] / middle["ours"],
    }
    print(
        f"{sizes['items']:>10,} {sizes['digits']:>3} {sizes['batch']:>5} {row['ours']:9.3f} "
        f"{row['baseline']:9.3f} {row['gather']:9.2f} {row['ratio']:12.1f}x "
        f"{row['ratio_to_gather']:8.1f}x {row['gigabytes_per_s']:7.1f} "
        f"{row['read_gigabytes_per_s']:7.1f} {row['share_of_reading']:7.0%}",
        flush=True,
    )
    return row


def fits(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Straight lines of time over items, and how far the times are from them."""
    lines = []
    for digits in DIGITS:
        for batch in (1, USERS):
            chosen = [
                r for r in rows if r["sizes"]["digits"] == digits and r["sizes"]["batch"] == batch
            ]
            items = np.array([r["sizes"]["items"] for r in chosen], float)
            times = np.array([r["ours"] for r in chosen])
            power = float(np.polyfit(np.log(items), np.log(times), 1)[0])
            line = np.polyfit(items, times, 1, w=1 / times)
            off = np.abs(np.polyval(line, items) / times - 1).max()
            lines.append(
                {
                    "digits": digits,
                    "batch": batch,
                    "ms_per_million": float(1e6 * line[0]),
                    "ms_fixed": float(line[1]),
                    "largest_error": float(off),
                    "power": power,
                }
            )
            print(
                f"m {digits}, batch {batch}: {line[1]:.3f} ms + {1e6 * line[0]:.3f} ms a million "
                f"items, at most {off:.0%} off; time ~ items^{power:.2f}"
            )
    return lines


def this_machine() -> dict[str, Any]:
    cpu = next(
        (
            line.split(":")[1].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        "",
    )
    found = {"cpu": cpu, "byte_permutes": HAS_LOOKUP, "cores_used": 1}
    return machine() | found | {"faiss": faiss.__version__}


def main() -> None:
    torch.set_num_threads(1)
    faiss.omp_set_num_threads(1)
    print(f"{HEAD} {'to faiss':>7} {'to gather':>9} {'GB/s':>7} {'read':>7} {'share':>7}")
    rng = np.random.default_rng(1)
    rows = [row for m in DIGITS for items in SIZES for row in rows_of(items, m, rng)]
    report = {"baseline": "faiss IndexPQ", "machine": this_machine(), "rows": rows}
    report["fits"] = fits(rows)
    report["gpu"] = {"baseline": "exhaustive on the GPU", "rows": rows_on_gpu(SIZES[-1], SAMPLES)}
    target = ROOT / "build" / "bench" / "decode.json"
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
