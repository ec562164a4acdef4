"""A tiny shop: artefacts with random codes and an untrained model, to build releases from."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from safetensors.numpy import save_file

from tesserec.artifacts import Artifact, build

ITEMS = 60
TRAINED = 50  # items that occur in training: the first ones
DIGITS = 4
SCHEMA_HASH = "feed0123"
SERVICE = "recommend_v1"
CUT = datetime(2026, 1, 1, tzinfo=UTC)


def item_id(row: int) -> str:
    return f"I{row:03d}"


def artifacts(
    workdir: Path, *, seed: int = 1, schema_hash: str = SCHEMA_HASH, model: str = "rpg"
) -> dict[str, Artifact]:
    """features, store, vectors, codes, model, metrics: what a run hands to `build_release`."""
    makers: Mapping[str, Callable[[Path], None]] = {
        "features": _features,
        "store": lambda folder: _store(folder, schema_hash),
        "vectors": _vectors,
        "codes": lambda folder: _codes(folder, seed),
        "model": lambda folder: MODELS[model](folder, seed),
        "metrics": lambda folder: _json(folder / "metrics.json", {"kept": {"ndcg@10": seed / 100}}),
    }
    params = {"seed": seed, "schema": schema_hash, "model": model}
    return {
        kind: build(workdir, kind, params=params, parents=(), version=1, make=make)[0]
        for kind, make in makers.items()
    }


def tiny_release(
    workdir: Path, *, seed: int = 1, schema_hash: str = SCHEMA_HASH, model: str = "rpg"
) -> str:
    """Build a release of the tiny shop in `workdir`; another seed gives another model."""
    from tesserec.release import build_release

    made = artifacts(workdir, seed=seed, schema_hash=schema_hash, model=model)
    no_codes = model == "sasrec"
    return build_release(
        workdir,
        features=made["features"],
        store=made["store"],
        coded=None if no_codes else (made["vectors"], made["codes"]),
        trained=[item_id(row) for row in range(TRAINED)] if no_codes else None,
        model=made["model"],
        model_name=model,
        metrics=made["metrics"],
    )


def _features(folder: Path) -> None:
    rows = range(ITEMS)
    profile = {
        "item_id": [item_id(row) for row in rows],
        "row": pa.array(rows, pa.int64()),
        "title": [f"Title {row} – ü" for row in rows],
        "brand": [f"B{row % 5}" for row in rows],
        "categories": [[f"Shop > C{row % 6}"] if row != 7 else None for row in rows],
        "price": pa.array([float(row) for row in rows], pa.float64()),
        "available": [False if row == 11 else (None if row % 2 else True) for row in rows],
        "listed_at": pa.array([0] * ITEMS, pa.int64()),
    }
    stats = {
        "item_id": [item_id(row) for row in rows],
        "count_30d": pa.array([ITEMS - row for row in rows], pa.int64()),
        "count_all": pa.array([2 * (ITEMS - row) for row in rows], pa.int64()),
        "event_timestamp": [CUT] * ITEMS,
    }
    walks = [[item_id((7 * user + 5 * step) % ITEMS) for step in range(9)] for user in range(30)]
    sequences = {
        "user_id": [f"U{user}" for user in range(len(walks))],
        "item_ids": walks,
        "timestamps": [list(range(len(walk))) for walk in walks],
    }
    _json(folder / "summary.json", {"cuts": {"train": None, "watermark": 99}, "has_times": True})
    tables = {"item_profile": profile, "item_stats": stats, "sequences": sequences}
    for name, columns in tables.items():
        (folder / name).mkdir()
        pq.write_table(pa.table(columns), folder / name / "part-0.parquet")


def _store(folder: Path, schema_hash: str) -> None:
    facts = {"service": SERVICE, "schema_hash": schema_hash, "watermark": 1_767_225_600, "rows": {}}
    _json(folder / "store.json", facts)


def _vectors(folder: Path) -> None:
    _ids(folder / "item_ids.parquet", {})
    _json(folder / "encoder" / "encoder.json", {"name": "none"})


def _codes(folder: Path, seed: int) -> None:
    save_file({"codes": _code_table(seed)}, folder / "codes.safetensors")
    _ids(folder / "item_ids.parquet", {"trained": [row < TRAINED for row in range(ITEMS)]})
    _json(folder / "tokenizer" / "tokenizer.json", {"name": "none"})


def _code_table(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 16, (ITEMS, DIGITS), dtype=np.uint8)


def _rpg(folder: Path, seed: int) -> None:
    from tesserec.models.rpg import RPG, Shape

    shape = Shape(digits=DIGITS, codebook_size=16, dim=16, layers=1, heads=2, ffn=16)
    RPG(shape, _code_table(seed), seed=seed).save(folder)


def _sasrec(folder: Path, seed: int) -> None:
    import torch

    from tesserec.models.sasrec import SASRec, Shape

    shape = Shape(items=ITEMS, dim=16, layers=1, ffn=16)
    model = SASRec(shape, np.arange(ITEMS) < TRAINED, seed=seed)
    torch.nn.init.normal_(model.vectors, generator=torch.Generator().manual_seed(seed))
    model.save(folder)


def _fusion(folder: Path, seed: int) -> None:
    from tesserec.models.fusion import Blend, Fusion
    from tesserec.models.rpg import RPG
    from tesserec.models.sasrec import SASRec

    _rpg(folder / "rpg", seed)
    _sasrec(folder / "sasrec", seed)
    codes = _code_table(seed)
    blend = Blend(temperatures=(2.0, 1.0), bounds=(4,), weights=(0.3, 0.6))
    parts = RPG.load(folder / "rpg", codes), SASRec.load(folder / "sasrec")
    Fusion(*parts, codes, blend).save(folder / "fusion")


MODELS = {"rpg": _rpg, "sasrec": _sasrec, "fusion": _fusion}


def _ids(path: Path, columns: Mapping[str, Sequence[Any]]) -> None:
    pq.write_table(pa.table({"item_id": [item_id(row) for row in range(ITEMS)], **columns}), path)


def _json(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))


@dataclass
class FakeRow:
    """One user's features."""

    user_id: str
    history: list[str] = field(default_factory=list)
    seen: set[str] = field(default_factory=set)
    known: bool = True


@dataclass
class FakeReader:
    """A feature store in memory; user `U<n>` is known for n < 200, with n % 9 events."""

    service: str = SERVICE
    schema_hash: str = SCHEMA_HASH
    broken: bool = False
    reads: int = 0

    def read(self, user_ids: Sequence[str]) -> list[FakeRow]:
        if self.broken:
            raise ConnectionError("no store")
        self.reads += 1
        return [fake_row(user) for user in user_ids]


def fake_row(user: str) -> FakeRow:
    number = int(user[1:]) if user[1:].isdigit() and len(user) < 9 else 10**6
    if number >= 200:
        return FakeRow(user, known=False)
    history = [item_id((number * 7 + 5 * step) % ITEMS) for step in range(number % 9)]
    return FakeRow(user, history, set(history))
