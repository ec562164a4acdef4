"""The part of `make bench-decode` for a GPU: the scan there beside the exhaustive decoder there.

Times are those of a caller: state on the device, rows and scores on the host, the wall's clock. The
card's memory bandwidth is that of a plain copy of the codes in the same run (read and written).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from tesserec.decoders.exhaustive import Exhaustive
from tesserec.decoders.scorers import CodeScorer

K, TOP, DIGITS, USERS, WARM = 256, 10, 32, 64, 3


def median(run: Callable[[], Any], samples: int) -> float:
    """Seconds of a run, the device idle before and after."""
    spent = []
    for turn in range(WARM + samples):
        torch.cuda.synchronize()
        started = time.perf_counter()
        run()
        torch.cuda.synchronize()
        if turn >= WARM:
            spent.append(time.perf_counter() - started)
    return float(np.median(spent))


def rows_on_gpu(items: int, samples: int) -> list[dict[str, Any]]:
    """One row for one user and one for 64; none, and a line that says so, without a device."""
    if not torch.cuda.is_available():
        print("no CUDA device here: the scan on a GPU is not measured")
        return []
    from tesserec.decoders.scan_gpu import ScanGPU

    device, rng = torch.device("cuda"), np.random.default_rng(1)
    codes = rng.integers(0, K, (items, DIGITS), dtype=np.uint8)
    state = torch.from_numpy(rng.normal(size=(USERS, DIGITS, K)).astype(np.float32)).to(device)
    scan = ScanGPU(codes, K).to(device)
    exhaustive = Exhaustive(CodeScorer(codes, K)).to(device)
    for mine, other in zip(scan.rank(state[:2], TOP), exhaustive.rank(state[:2], TOP), strict=True):
        np.testing.assert_array_equal(mine, other)
    plain = torch.from_numpy(codes).to(device)
    copied = 2 * codes.nbytes / median(lambda: plain.clone(), samples)
    return [row(scan, exhaustive, state[:batch], codes, copied, samples) for batch in (1, USERS)]


def row(
    scan: Any, exhaustive: Any, state: torch.Tensor, codes: np.ndarray, copied: float, samples: int
) -> dict[str, Any]:
    batch = len(state)
    ours = median(lambda: scan.rank(state, TOP), samples) / batch
    baseline = median(lambda: exhaustive.rank(state, TOP), max(1, samples // 3)) / batch
    read = codes.nbytes / ours
    print(
        f"{torch.cuda.get_device_name()}, {len(codes):,} x {DIGITS}, batch {batch}: scan "
        f"{1e3 * ours:.3f} ms/user, exhaustive {1e3 * baseline:.3f}; {read / 1e9:.0f} GB/s of "
        f"codes a user, {read / copied:.0%} of the {copied / 1e9:.0f} GB/s of a copy"
    )
    return {
        "name": "exact top 10 on a GPU",
        "ours": 1e3 * ours,
        "baseline": 1e3 * baseline,
        "ratio": baseline / ours,
        "unit": "ms/user",
        "sizes": {"items": len(codes), "digits": DIGITS, "batch": batch},
        "samples": samples,
        "device": torch.cuda.get_device_name(),
        "gigabytes_per_s": read / 1e9,
        "copy_gigabytes_per_s": copied / 1e9,
        "share_of_copy": read / copied,
    }
