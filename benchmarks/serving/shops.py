"""Working folders for the serving benchmarks: a run on real data, and releases of any size.

`generated` makes N items with random codes and an untrained model of the paper's size: what a
request costs hangs on the number of items and digits, hardly on what the weights know.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from safetensors.numpy import save_file

from tesserec.artifacts import Artifact, build
from tesserec.config import RunConfig
from tesserec.data.schemas import INTERACTIONS, ITEMS
from tesserec.release import promote, promoted

ROOT = Path(__file__).resolve().parents[2]
USERS, EVENTS = 2_000, 9  # events a user on average
START = 1_700_000_000
DIGITS, SIZE = 32, 256


def trained(workdir: Path, config: str, settings: Sequence[str]) -> str:
    """The release of a `tesserec run`; one that is done costs seconds."""
    command = [sys.executable, "-m", "tesserec.cli", "run", str(ROOT / "configs" / config)]
    command += ["--workdir", str(workdir), "--json", *settings]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        raise SystemExit(f"tesserec run of {workdir} ended with {done.returncode}")
    return json.loads(done.stdout)["release_id"]


def generated(workdir: Path, items: int) -> str:
    """A promoted release of so many generated items, and a feature store with `USERS` users."""
    from tesserec.release import build_release
    from tesserec.steps import feature_store, features

    found = promoted(workdir)
    if found is not None:
        return found
    config = RunConfig()

    def made(kind: str, make: object, parents: Sequence[Artifact] = ()) -> Artifact:
        params = {"items": items}
        return build(workdir, kind, params=params, parents=parents, version=1, make=make)[0]  # pyright: ignore[reportArgumentType]

    raw = made("raw", lambda folder: _raw(folder, items))
    tables = features.run(workdir, config, raw)
    store = feature_store.run(workdir, config, tables)
    profile = pq.read_table(tables.file("item_profile")).sort_by("row")
    ids = profile["item_id"].combine_chunks()
    codes = np.random.default_rng(2).integers(0, SIZE, (len(ids), DIGITS), dtype=np.uint8)
    release = build_release(
        workdir,
        features=tables,
        store=store,
        coded=(
            made("vectors", lambda folder: _vectors(folder, ids)),
            made("codes", lambda folder: _codes(folder, ids, codes)),
        ),
        model=made("model", lambda folder: _model(folder, codes)),
        model_name="rpg",
        metrics=made("metrics", lambda folder: _json(folder / "metrics.json", {})),
    )
    promote(workdir, release)
    return release


def users_of(workdir: Path, count: int) -> list[str]:
    """Users that the feature store knows."""
    folders = sorted((workdir / "artifacts").glob("features-*"), key=lambda p: p.stat().st_mtime)
    table = pq.read_table(folders[-1] / "user_history", columns=["user_id"])
    found = sorted(set(table["user_id"].to_pylist()))
    return found[:: max(len(found) // count, 1)][:count]


def _raw(folder: Path, items: int) -> None:
    rng = np.random.default_rng(1)
    lengths = 2 + rng.poisson(EVENTS - 2, USERS)
    user = np.repeat(np.arange(USERS), lengths)
    total = len(user)
    times = START + np.sort(rng.integers(0, 10_000_000, total))
    names = np.char.add("I", np.arange(items).astype(str))
    interactions = pa.table(
        [
            pa.array(np.char.add("U", user.astype(str))),
            pa.array(names[rng.integers(0, items, total)]),
            times,
            np.arange(total),
            pa.array(["interaction"] * total),
        ],
        schema=INTERACTIONS,
    )
    columns = {f.name: pa.nulls(items, f.type) for f in ITEMS}
    columns["item_id"] = pa.array(names)
    columns["title"] = pa.array(np.char.add("Title ", np.arange(items).astype(str)))
    columns["brand"] = pa.array(np.char.add("B", (np.arange(items) % 1000).astype(str)))
    paths = np.char.add("Shop > C", (np.arange(items) % 200).astype(str))
    columns["categories"] = pa.ListArray.from_arrays(np.arange(items + 1, dtype=np.int32), paths)
    columns["listed_at"] = pa.array(np.full(items, START))
    for name, table in (("interactions", interactions), ("items", pa.table(columns, schema=ITEMS))):
        (folder / name).mkdir()
        pq.write_table(table, folder / name / "part-00000.parquet")
    _json(folder / "counts.json", {})


def _vectors(folder: Path, ids: pa.Array) -> None:
    pq.write_table(pa.table({"item_id": ids}), folder / "item_ids.parquet")
    _json(folder / "encoder" / "encoder.json", {"name": "none"})


def _codes(folder: Path, ids: pa.Array, codes: np.ndarray) -> None:
    save_file({"codes": codes}, folder / "codes.safetensors")
    flags = pa.array(np.ones(len(ids), bool))
    pq.write_table(pa.table({"item_id": ids, "trained": flags}), folder / "item_ids.parquet")
    _json(folder / "tokenizer" / "tokenizer.json", {"name": "none"})


def _model(folder: Path, codes: np.ndarray) -> None:
    from tesserec.models.rpg import RPG, Shape

    RPG(Shape(digits=DIGITS, codebook_size=SIZE), codes, seed=1).save(folder)


def _json(path: Path, value: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))


if __name__ == "__main__":
    generated(Path(sys.argv[1]), int(sys.argv[2]))
