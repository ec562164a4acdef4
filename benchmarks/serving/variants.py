"""Releases that differ from a base release in one part and refer to it for the rest."""

from __future__ import annotations

import json
import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from safetensors.numpy import load_file, save_file

from tesserec.artifacts import sha256_of, write_manifest
from tesserec.models.rpg import RPG, Shape
from tesserec.release.manifest import Part, parts_of, plain, read_release, release_id_of


def other_weights(workdir: Path, base: str, seed: int) -> str:
    """Codes and items of the base, an untrained model of another seed."""
    folder = workdir / "releases" / f".new-{seed}"
    codes = load_file(workdir / "releases" / base / "codes" / "base-0000.safetensors")["codes"]
    shape = json.loads((workdir / "releases" / base / "models/rpg/model.json").read_text())["shape"]
    RPG(Shape(**shape), codes, seed=seed).save(folder / "models" / "rpg")
    names = ["models/rpg/model.json", "models/rpg/model.safetensors"]
    parts = _parts(workdir, base)
    parts["models"] = {"rpg": [_own(folder, name) for name in names]}
    return _finish(workdir, folder, base, parts)


def of_nonsense(workdir: Path, base: str) -> str:
    """As `other_weights`, but the weights are no numbers; every hash is right."""
    folder = workdir / "releases" / ".new-nan"
    home = workdir / "releases" / base / "models" / "rpg"
    (folder / "models" / "rpg").mkdir(parents=True)
    shutil.copyfile(home / "model.json", folder / "models" / "rpg" / "model.json")
    weights = load_file(home / "model.safetensors")
    path = folder / "models" / "rpg" / "model.safetensors"
    save_file({name: np.full_like(value, np.nan) for name, value in weights.items()}, path)
    names = ["models/rpg/model.json", "models/rpg/model.safetensors"]
    parts = _parts(workdir, base)
    parts["models"] = {"rpg": [_own(folder, name) for name in names]}
    return _finish(workdir, folder, base, parts)


def more_items(workdir: Path, base: str, items: int) -> str:
    """The base and so many new items: only they are in the folder."""
    folder = workdir / "releases" / ".new-items"
    home = workdir / "releases" / base
    for name in ("codes", "items"):
        (folder / name).mkdir(parents=True)
    codes = load_file(home / "codes" / "base-0000.safetensors")["codes"]
    rng = np.random.default_rng(5)
    new = rng.integers(0, int(codes.max()) + 1, (items, codes.shape[1])).astype(codes.dtype)
    save_file({"codes": new}, folder / "codes" / "delta-0001.safetensors")
    table = pq.read_table(home / "items" / "base-0000.parquet").slice(0, items)
    ids = pa.array([f"new{row}" for row in range(items)])
    place = table.column_names.index("item_id")
    table = table.set_column(place, table.schema.field(place), ids)
    pq.write_table(table, folder / "items" / "delta-0001.parquet")
    parts = _parts(workdir, base)
    parts["codes"].append(_own(folder, "codes/delta-0001.safetensors"))
    parts["items"].append(_own(folder, "items/delta-0001.parquet"))
    return _finish(workdir, folder, base, parts)


def _parts(workdir: Path, base: str) -> dict[str, Any]:
    parts = read_release(workdir / "releases" / base)["parts"]
    found: dict[str, Any] = {n: parts_of(value) for n, value in parts.items() if n != "models"}
    return found | {"models": {n: parts_of(value) for n, value in parts["models"].items()}}


def _own(folder: Path, name: str) -> Part:
    return Part("", name, sha256_of(folder / name))


def _finish(workdir: Path, folder: Path, base: str, parts: dict[str, Any]) -> str:
    """The manifest, and the folder under its id."""
    manifest = read_release(workdir / "releases" / base)
    service, schema = manifest["feature_service"], manifest["feature_schema_hash"]
    release_id = release_id_of(parts, service, schema)
    text = json.dumps(plain(parts)).replace('"release": ""', f'"release": "{release_id}"')
    kept = {k: v for k, v in manifest.items() if k not in ("files", "content_hash")}
    created = datetime.now(UTC).isoformat(timespec="microseconds")
    fields = {**kept, "release_id": release_id, "parent": base, "created": created}
    write_manifest(folder, fields | {"parts": json.loads(text)})
    shutil.rmtree(workdir / "releases" / release_id, ignore_errors=True)
    folder.rename(workdir / "releases" / release_id)
    return release_id
