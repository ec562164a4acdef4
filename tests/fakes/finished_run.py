"""A workdir as a run leaves it, made by hand: for tests of the report."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from safetensors.numpy import save_file

from tesserec.artifacts import Artifact, build
from tesserec.config import RunConfig, to_dict
from tesserec.data.schemas import QUARANTINE

RUN = "20261122-143200-test"
LONG = "averyveryverylongtitlewithoutanyspace" * 6
ITEMS, USERS, DIGITS, SIZE = 300, 120, 32, 256


def finished_run(workdir: Path, *, until: str | None = None, error: str = "") -> Path:
    """Write artefacts and `reports/RUN/`; with `until`, that step failed with `error`."""
    folder = workdir / "reports" / RUN
    folder.mkdir(parents=True)
    run = {"run_id": RUN, "config": to_dict(RunConfig()), "started": "20261122-143200"}
    (folder / "run.json").write_text(json.dumps(run))
    lines: list[dict[str, Any]] = []
    for number, (step, make) in enumerate(MAKERS.items()):
        lines.append({"step": step, "event": "start", "time": "2026-11-22T14:32:00+00:00"})
        end: dict[str, Any] = {"step": step, "event": "end", "seconds": 1.5 * number + 0.1}
        if step == until:
            lines.append({**end, "artifact": None, "reused": False, "error": error})
            break
        artifact = _artifact(workdir, step, make)
        lines.append({**end, "artifact": artifact.pointer(), "reused": number % 3 == 0})
    (folder / "steps.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def _artifact(workdir: Path, kind: str, make: Callable[[Path], None]) -> Artifact:
    return build(workdir, kind, params={}, parents=(), version=1, make=make)[0]


def _json(folder: Path, name: str, tree: Any) -> None:
    (folder / name).write_text(json.dumps(tree))


def _raw(folder: Path) -> None:
    counts = {
        "source": "folder",
        "read": {"interactions": 12_345, "items": ITEMS},
        "kept": {"interactions": 12_300, "items": ITEMS - 1},
        "quarantined": {"interactions": {"time lies in the future": 45}, "items": {"double": 1}},
        "repaired": {"interactions": {}, "items": {"price cannot be read: null": 3}},
        "unused_columns": {"interactions": ["session"], "items": []},
        "first_time": 1_704_120_825,
    }
    _json(folder, "counts.json", counts)
    rows = [
        ("interactions", "a.csv", i, "time lies in the future", f'{{"user_id": "<b>{LONG}"}}')
        for i in range(7)
    ]
    columns = list(zip(*rows, strict=True))
    pq.write_table(pa.table(columns, schema=QUARANTINE), folder / "quarantine.parquet")


def _gate(name: str, failed: list[dict[str, Any]] | None = None) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        verdict = {
            "name": name,
            "passed": True,
            "failed_expectations": failed or [],
            "checked": 12,
            "rows": {"interactions": 12_300, "items": ITEMS},
            "tables": {},
        }
        _json(folder, "verdict.json", verdict)
        (folder / "data_docs").mkdir()
        (folder / "data_docs" / "index.html").write_text("<!doctype html><title>docs</title>")

    return make


def _features(folder: Path) -> None:
    summary = {
        "users": USERS,
        "items": ITEMS,
        "interactions": 12_300,
        "watermark": 1_735_603_200,
        "cuts": {"train": None, "watermark": 1_735_603_200},
        "rows": {"sequences": USERS},
    }
    _json(folder, "summary.json", summary)


def _codes(folder: Path) -> None:
    rng = np.random.default_rng(0)
    codes = rng.integers(0, SIZE, (ITEMS, DIGITS)).astype(np.uint8)
    save_file({"codes": codes}, folder / "codes.safetensors")
    quality = {
        "items": ITEMS,
        "codebook_size": SIZE,
        "utilisation": 0.7,
        "per_digit": [{"utilisation": 0.7, "entropy_bits": 7.1}] * DIGITS,
        "reconstruction_error": {"training_items": 0.4, "held_out": None},
    }
    _json(folder, "quality.json", quality)


def _model(folder: Path) -> None:
    lines = [{"epoch": e, "loss": 9 / (e + 1)} for e in range(1, 21)]
    for line in lines[1::2]:
        line |= {"val_ndcg@10": 0.02 * line["epoch"] ** 0.5, "val_recall@10": 0.03}
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (folder / "history.jsonl").write_text(text)


def _metrics(folder: Path) -> None:
    names = [f"{m}@{k}" for m in ("recall", "ndcg") for k in (5, 10, 50)]

    def table(scale: float) -> dict[str, Any]:
        values = {n: scale * (1 + i) / 10 for i, n in enumerate(names)}
        return {**values, "ndcg@10_ci": [scale * 0.4, scale * 0.6]}

    both = {"kept": table(0.5), "dropped": table(0.4)}
    metrics = {
        "model": "rpg",
        "users": USERS,
        **both,
        "slices": [{"by": "target_training_frequency", "bin": "0", "users": 3, **both}],
        "baselines": {
            n: {"kept": table(0.1), "dropped": table(0.2)} for n in ("popularity", "item_knn")
        },
    }
    _json(folder, "metrics.json", metrics)
    rng = np.random.default_rng(0)
    columns: dict[str, Any] = {"user_id": [f"u{i}" for i in range(USERS)]}
    for name in ("rpg", "popularity", "item_knn"):
        for way in ("kept", "dropped"):
            columns[f"{name}_rank_{way}"] = rng.integers(0, 51, USERS).astype(np.int32)
    columns["target_freq"] = rng.integers(0, 40, USERS).astype(np.int32)
    columns["history_length"] = rng.integers(1, 80, USERS).astype(np.int32)
    pq.write_table(pa.table(columns), folder / "per_user.parquet")

    def item(number: int) -> dict[str, str]:
        return {"item_id": f"i{number}", "title": LONG if number == 3 else f"Item {number} & co"}

    examples = [
        {
            "user_id": f"user <{u}>",
            "history": [item(i) for i in range(5)],
            "target": item(7),
            "recommendations": [item(i) for i in range(2, 12)],
        }
        for u in range(10)
    ]
    _json(folder, "examples.json", examples)


def _gate_metrics(folder: Path) -> None:
    failed = {
        "table": "slices",
        "expectation": "expect_column_values_to_be_between",
        "severity": "warning",
        "column": "relative",
        "bad_share": 0.1,
        "examples": [{"by": "history_length", "bin": "50+", "relative": -0.2}],
        "message": "10.00% of 10 rows are bad",
    }
    _gate("gate_metrics", [failed])(folder)
    row = {
        "users": USERS,
        "model": 0.5,
        "promoted": 0.49,
        "relative": 0.02,
        "low": -0.005,
        "high": 0.04,
    }
    comparison = {
        "promoted": "r0123456789a",
        "kept": {"ndcg@10": 0.2},
        "dropped": {},
        "tables": {"against_promoted": [row]},
    }
    _json(folder, "comparison.json", comparison)


def _rehearsal(folder: Path) -> None:
    found = {
        "release_id": "r176876f3942",
        "users": 100,
        "equal": True,
        "mismatches": [],
        "latency_ms": {"p50": 4.1, "p95": 6.0, "p99": 8.5},
        "seconds_to_ready": 5.2,
    }
    _json(folder, "rehearsal.json", found)


MAKERS: dict[str, Callable[[Path], None]] = {
    "ingest": _raw,
    "gate_raw": _gate("gate_raw"),
    "features": _features,
    "gate_features": _gate("gate_features"),
    "feature_store": lambda folder: _json(folder, "store.json", {}),
    "encode": lambda folder: _json(folder, "summary.json", {}),
    "tokenize": _codes,
    "gate_codes": _gate("gate_codes"),
    "train": _model,
    "evaluate": _metrics,
    "gate_metrics": _gate_metrics,
    "build_release": lambda folder: _json(folder, "release.json", {"release_id": "r176876f3942"}),
    "rehearse": _rehearsal,
    "promote": lambda folder: _json(folder, "promoted.json", {}),
}
