"""Training speed: users a second of RPG at the paper's size, beside the layout it was released in.

    make bench-train           DATA=folder; QUICK=1: batches of 64, one turn of each side

Sequences are those of Amazon Beauty if DATA (default: data/) holds beauty2014/, else generated with
the same lengths; codes are drawn at random (their values don't matter for speed). All sides take
turns of a few steps on all cores, with dropout; the first step of a turn isn't counted. Ours run
through `tesserec.training.loop.fit`. Before that, baseline and ours train on the same batches from
the same weights, without dropout: their losses have to agree to 1e-4. Results go to
build/bench/train.json.

A step has 256 rows. In the released layout users with more than 51 events fill several rows, so
speed is told as users of an epoch / seconds of an epoch.
"""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import torch
from baselines.padded_rpg import PaddedRPG, released_windows, train
from baselines.sides import Clock, Side, take
from baselines.switched_off import Autograd, HeadsEverywhere, PaddedHeadsEverywhere, Unpacked
from features import machine

from tesserec.config import TrainingConfig
from tesserec.models.rpg import RPG, Shape
from tesserec.training.loop import fit, learning_rate, uses_bf16
from tesserec.training.packing import Windows, windows

ROOT = Path(__file__).resolve().parents[1]
DATA = Path(os.environ.get("DATA") or ROOT / "data").resolve()
BEAUTY = DATA / "beauty2014" / "interactions.parquet"
QUICK = bool(os.environ.get("QUICK"))
ROUNDS = 1 if QUICK else 3
BASELINE_STEPS, STEPS = 3, 6  # of a turn
EQUAL_STEPS, TOLERANCE = 3, 1e-4
ITEMS, USERS = 12_101, 22_363
# of Beauty's training sequences (without the two held-out events): share of users up to a length
LENGTHS = (2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 15, 20, 30, 40, 50, 75, 100, 150, 202)
SHARES = (0, 0.3203, 0.509, 0.6289, 0.7098, 0.7709, 0.8103, 0.8414, 0.8663, 0.9021, 0.9326)
SHARES += (0.9582, 0.9815, 0.9899, 0.9939, 0.9979, 0.9992, 0.9998, 1)
SHAPE = Shape(digits=32, codebook_size=256, item_scale="mean")
CONFIG = TrainingConfig(
    epochs=1,
    batch_users=64 if QUICK else 256,
    threads=len(os.sched_getaffinity(0)),
    label_smoothing=0.0,
    device="cpu",
)


def sequences() -> tuple[str, list[np.ndarray]]:
    """Training sequences of item rows, and where they are from."""
    if not BEAUTY.exists():
        rng = np.random.default_rng(1)
        lengths = np.ceil(np.interp(rng.random(USERS), SHARES, LENGTHS)).astype(np.int64)
        return "generated, lengths of Beauty", [rng.integers(0, ITEMS, n) for n in lengths]
    table = pq.read_table(BEAUTY).sort_by([("user_id", "ascending"), ("position", "ascending")])
    _, users = np.unique(np.array(table["user_id"].to_pylist()), return_inverse=True)
    _, items = np.unique(np.array(table["item_id"].to_pylist()), return_inverse=True)
    return "Amazon Beauty", [s[:-2] for s in np.split(items, np.flatnonzero(np.diff(users)) + 1)]


def baseline(shape: Shape, codes: np.ndarray) -> PaddedRPG:
    model = PaddedRPG(shape, codes)
    model.take_weights(RPG(shape, codes, seed=1))
    return model


def losses(data: Windows, codes: np.ndarray) -> dict[str, list[float]]:
    """Of the first steps without dropout, in fp32."""
    shape = replace(SHAPE, dropout=0.0)
    config = replace(CONFIG, precision="fp32", warmup_steps=1)
    data = take(data, EQUAL_STEPS * CONFIG.batch_users, seed=0)
    clocks = {"baseline": Clock(), "ours": Clock()}
    train(
        baseline(shape, codes),
        data,
        batch=config.batch_users,
        seed=1,
        rate=lambda step: learning_rate(config, step, EQUAL_STEPS),
        clip_norm=config.clip_norm,
        on_step=clocks["baseline"].step,
    )
    fit(RPG(shape, codes, seed=1), data, config, seed=1, on_progress=clocks["ours"].progress)
    return {name: clock.losses for name, clock in clocks.items()}


def sides(data: list[np.ndarray]) -> list[Side]:
    """The baseline first; ours as a training on this machine runs it has the name 'ours'."""
    released, merged = released_windows(data, SHAPE.positions), windows(data, SHAPE.positions)
    fast = uses_bf16(replace(CONFIG, precision="auto"), torch.device("cpu"))
    found = [
        Side("released layout, fp32", PaddedRPG, released, bf16=False),
        Side("ours, fp32, the same rows", RPG, released, bf16=False),
        Side("ours, fp32", RPG, merged, bf16=False),
    ]
    if fast:
        found.append(Side("ours, bf16", RPG, merged, bf16=True))
    return [
        *found,
        Side("  rows not packed", Unpacked, merged, bf16=fast),
        Side("  extra windows kept", RPG, released, bf16=fast),
        Side("  gradient by autograd", Autograd, merged, bf16=fast),
        Side("  autograd, heads everywhere", HeadsEverywhere, merged, bf16=fast),
        Side("  autograd, padded, heads everywhere", PaddedHeadsEverywhere, merged, bf16=fast),
    ]


def turn(side: Side, codes: np.ndarray, seed: int) -> None:
    """A few steps of one side; adds their seconds to it."""
    clock = Clock()
    if side.kind is PaddedRPG:
        train(
            baseline(SHAPE, codes),
            take(side.data, BASELINE_STEPS * CONFIG.batch_users, seed),
            batch=CONFIG.batch_users,
            seed=1,
            rate=lambda step: CONFIG.learning_rate,
            clip_norm=CONFIG.clip_norm,
            on_step=clock.step,
        )
    else:
        config = replace(CONFIG, precision="bf16" if side.bf16 else "fp32")
        data = take(side.data, STEPS * CONFIG.batch_users, seed)
        fit(side.kind(SHAPE, codes, seed=1), data, config, seed=1, on_progress=clock.progress)
    side.seconds += clock.seconds()[1:]
    side.cpu_seconds += clock.cpu_seconds()[1:]


def row(side: Side, reference: Side) -> dict[str, Any]:
    ours, theirs = (s.users_per_s(USERS, CONFIG.batch_users) for s in (side, reference))
    cpu = float(np.median(reference.cpu_seconds) / np.median(side.cpu_seconds))
    rows = len(reference.data.events) / len(side.data.events)  # of an epoch
    return {
        "name": side.name.strip(),
        "ours": ours,
        "baseline": theirs,
        "ratio": ours / theirs,
        "ratio_cpu_time": cpu * rows,
        "unit": "users/s",
        "sizes": {"batch": CONFIG.batch_users, "rows an epoch": len(side.data.events)},
        "samples": {"seconds": side.seconds, "baseline seconds": reference.seconds},
    }


def main() -> None:
    torch.set_num_threads(CONFIG.threads)
    source, data = sequences()
    codes = np.random.default_rng(1).integers(0, 256, (ITEMS, SHAPE.digits)).astype(np.uint8)
    measured = sides(data)
    curves = losses(measured[0].data, codes)
    apart = float(np.abs(np.subtract(curves["ours"], curves["baseline"])).max())
    print(f"{source}; {CONFIG.threads} threads; {EQUAL_STEPS} steps, losses {apart:.1e} apart")
    if apart > TOLERANCE:
        raise SystemExit(f"ours and the baseline have other losses: {curves}")
    for seed in range(ROUNDS):
        for side in measured:
            turn(side, codes, seed)
    print(f"{'':38} {'users/s':>9} {'ratio':>7} {'CPU time':>9}  step, s (lowest to highest)")
    rows = []
    for side in measured:
        line = row(side, measured[0])
        rows.append(line)
        low, high = min(side.seconds), max(side.seconds)
        spread = f"{np.median(side.seconds):.3f} ({low:.3f} to {high:.3f}, {len(side.seconds)})"
        shown = f"{line['ours']:9.1f} {line['ratio']:7.2f} {line['ratio_cpu_time']:9.2f}"
        print(f"{side.name:38} {shown}  {spread}")
    target = ROOT / "build" / "bench" / "train.json"
    target.parent.mkdir(parents=True, exist_ok=True)
    report = {
        "baseline": measured[0].name,
        "data": source,
        "losses": curves,
        "machine": machine() | {"threads": CONFIG.threads},
        "rows": rows,
    }
    target.write_text(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
