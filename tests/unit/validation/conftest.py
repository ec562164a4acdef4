"""Good tables for each suite; a test breaks one rule of a copy."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from tesserec.validation import Verdict, run_gate
from tesserec.validation.frames import code_facts, codebook_facts

N = 40
SETTINGS: dict[str, dict[str, Any]] = {
    "interactions": {"min_rows": 10},
    "vectors": {"items": N},
    "codes": {"items": N, "digits": 4, "codebook_size": 8},
    "codebooks": {"items": N, "digits": 4, "codebook_size": 8},
    "against_promoted": {"max_loss": 0.01},
    "slices": {"max_slice_loss": 0.05},
    "ledger": {"rows": N, "entries": N},
    "table": {"items": N},
    "refresh": {"items": 0.05, "impressions": 0.02},
}


def _ids(prefix: str) -> list[str]:
    return [f"{prefix}{i}" for i in range(N)]


def good_tables() -> dict[str, pd.DataFrame]:
    codes = np.random.default_rng(0).integers(0, 8, (N, 4)).astype(np.uint8)
    text: dict[str, Any] = dict.fromkeys(
        ("brand", "categories", "description", "keywords", "image_caption")
    )
    counts = {
        f"{what}_{days}d": 1 + days // 7 for what in ("count", "users") for days in (1, 7, 30)
    }
    cut = 1_700_000_000
    interval = {"low": 0.01, "high": 0.2}
    frames = {
        "interactions": {
            "user_id": [f"u{i // 4}" for i in range(N)],
            "item_id": _ids("i"),
            "timestamp": range(cut, cut + N),
            "position": [i % 4 for i in range(N)],
            "event_type": "interaction",
            "known_item": True,
        },
        "items": {
            "item_id": _ids("i"), "title": _ids("title "), "price": 9.5, "listed_at": cut,
            "available": True, **text,
        },
        "sequences": {"user_id": _ids("u"), "length": 3, "aligned": True, "ordered": True},
        "user_history": {
            "user_id": _ids("u"), "event_timestamp": cut, "length": 50, "aligned": True,
            "seen": 60, "before_cut": True,
        },
        "item_profile": {"item_id": _ids("i"), "row": range(N), "listed_at": cut},
        "item_stats": {
            "item_id": _ids("i"), "event_timestamp": cut, **counts, "count_all": 9,
            "first_seen": cut - 9, "last_seen": cut - 1,
        },
        "vectors": {"item_id": _ids("i"), "finite": True, "norm": np.linspace(1, 2, N)},
        "codes": {"item_id": _ids("i"), **code_facts(codes)},
        "codebooks": codebook_facts(codes, 8),
        "quality": {"error_training": [0.4], "error_held_out": [0.5], "neighbour_gain": [0.2]},
        "against_popularity": {
            "users": [99], "model": 0.3, "popularity": 0.1, "difference": 0.2, **interval,
        },
        "against_promoted": {
            "users": [99], "model": 0.3, "promoted": 0.3, "relative": 0.0, "low": -0.009,
            "high": 0.1,
        },
        "slices": {
            "by": "history_length", "bin": ["1-4", "5-9"], "users": [60, 9], "model": 0.3,
            "promoted": 0.3, "relative": [-0.04, -0.04], "low": -0.06, "high": -0.01,
            "judged": [-0.04, 0.0],
        },
        "ledger": {
            "item_id": _ids("i"), "row": range(N), "reason": "its code no longer fitted",
            "event": ["moved", "encoded", *["retired"] * (N - 2)], "at": cut,
            "changes_code": [True, True, *[False] * (N - 2)],
        },
        "table": {
            "item_id": _ids("i"), "status": ["active"] * (N - 1) + ["quarantined"],
            "has_code": True, "pending": [False] * (N - 1) + [True],
        },
        "refresh": {
            "churn_items": [0.05], "churn_impressions": 0.02, "utilisation_change": -0.01,
            "entropy_change": -0.01, "collision_change": 0.004, "bucket_ratio": 2.0,
            "largest_bucket": 9.0, "held_out_ratio": 1.01,
        },
    }  # fmt: skip
    return {name: pd.DataFrame(columns) for name, columns in frames.items()}


Check = Callable[..., Verdict]


@pytest.fixture
def check(tmp_path: Path) -> Check:
    """Run one suite as a gate: `check("items", frame)`."""

    def run(table: str, frame: pd.DataFrame, **settings: Any) -> Verdict:
        chosen = {table: {**SETTINGS.get(table, {}), **settings}}
        return run_gate("gate_test", {table: frame}, tmp_path / "gate", chosen)

    return run


@pytest.fixture
def tables() -> dict[str, pd.DataFrame]:
    return good_tables()
