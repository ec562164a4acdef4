"""A release that differs from another by a few rows or parts; the rest it refers to.

`encode` adds rows, `maintain` replaces some and brings another model and tokenizer. What did not
change is named by hash in the ancestor that holds it, so a delta costs what it changes, on the
disk and in a running server. Every 20th is compacted: its tables are whole again.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from safetensors.numpy import save_file

from tesserec import __version__
from tesserec.artifacts import sha256_of, write_atomic
from tesserec.errors import ArtifactError
from tesserec.lineage import LINEAGE, lineage_of, metadata
from tesserec.release.build import clear_leftovers, owned_parts, publish
from tesserec.release.manifest import (
    Part,
    part_path,
    parts_of,
    plain,
    read_release,
    release_folder,
    release_id_of,
    releases_folder,
)
from tesserec.tables import ROW, grow_codes, grow_items

log = logging.getLogger(__name__)
TABLES = ("items", "codes", "ledger")
COMPACTED = 20  # deltas after which the tables are written whole
_PARQUET: dict[str, Any] = {"compression": "zstd"}


@dataclass(frozen=True, kw_only=True)
class Delta:
    """What a release has of its own; None: nothing of that kind."""

    items: pa.Table | None = None  # rows to add
    codes: np.ndarray | None = None  # [n, m], of these rows
    item_patch: pa.Table | None = None  # whole rows, and their `row`
    code_patch: tuple[np.ndarray, np.ndarray] | None = None  # rows int64 [p], codes [p, m]
    ledger: pa.Table | None = None
    # part ("tokenizer", "models/rpg", "decoder") -> files by their path below it; replaced whole
    parts: Mapping[str, Mapping[str, Path]] = field(default_factory=dict)

    @property
    def empty(self) -> bool:
        tables = (self.items, self.item_patch)
        return not self.parts and not any(t is not None and t.num_rows for t in tables)


def build_delta(
    workdir: Path,
    parent_id: str,
    delta: Delta,
    *,
    cadence: str,
    fields: Mapping[str, Any] | None = None,
    metrics: Mapping[str, Any] | None = None,
    report: Callable[[Path, str], None] | None = None,
) -> str:
    """Write the release and return its id; the same delta of the same parent changes nothing.

    Args:
        cadence: what made it: encode, maintain or rebuild.
        fields: of the manifest, in place of the parent's.
        metrics: of a new model; None: the parent's figures, which its model still has.
        report: writes `report.html` to the path that it is given, beside the id.

    Raises:
        ArtifactError: rows and codes don't fit each other or the parent.
    """
    parent_folder = release_folder(workdir, parent_id)
    parent = read_release(parent_folder)
    folder = releases_folder(workdir)
    clear_leftovers(folder)
    scratch = folder / f".tmp-{os.getpid()}"
    scratch.mkdir(parents=True)
    number = int(parent.get("delta", 0)) + 1
    lineage = _lineage(parent_folder, parent)
    _write_tables(scratch, delta, number, lineage)
    for name, files in delta.parts.items():
        for below, path in files.items():
            target = scratch / name / below
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
    parts = _parts(scratch, parent, delta)
    if cadence != "encode":  # codes move again: those from before a rebuild have had their time
        parts.pop("aliases", None)
    if number % COMPACTED == 0:
        parts |= _compact(scratch, folder, parts, number, lineage)
    release_id = release_id_of(parts, parent["feature_service"], parent["feature_schema_hash"])
    kept = {k: v for k, v in parent.items() if k not in ("files", "content_hash")}
    manifest = {
        **kept,
        "release_id": release_id,
        "created": datetime.now(UTC).isoformat(timespec="microseconds"),
        "parent": parent_id,
        "cadence": cadence,
        "delta": number,
        "lineage": parent.get("lineage") or parent_id,
        "tesserec_version": __version__,
        **(fields or {}),
        "parts": plain(owned_parts(parts, release_id)),
    }
    figures = dict(metrics or json.loads((parent_folder / "metrics.json").read_text()))
    text = json.dumps({**figures, "release_id": release_id}, indent=1)
    write_atomic(scratch / "metrics.json", text)
    if report:
        report(scratch / "report.html", release_id)
    publish(scratch, folder / release_id, manifest)
    return release_id


def _lineage(folder: Path, manifest: Mapping[str, Any]) -> str | None:
    """Of the parent's tokenizer."""
    paths = [part_path(folder, part) for part in parts_of(manifest["parts"].get("tokenizer", []))]
    return next((lineage_of(path.parent) for path in paths if path.name == LINEAGE), None)


def _write_tables(scratch: Path, delta: Delta, number: int, lineage: str | None) -> None:
    """The delta's tables; a part has the number of its delta."""
    new = 0 if delta.items is None else delta.items.num_rows
    if new != (0 if delta.codes is None else len(delta.codes)):
        raise ArtifactError(
            f"a delta of {new} items has {0 if delta.codes is None else len(delta.codes)} codes"
        )
    for name in TABLES:
        (scratch / name).mkdir()
    if new:
        pq.write_table(delta.items, scratch / f"items/delta-{number:04d}.parquet", **_PARQUET)
        codes = {"codes": np.ascontiguousarray(delta.codes)}
        path = scratch / f"codes/delta-{number:04d}.safetensors"
        save_file(codes, path, metadata=metadata(lineage))
    if delta.item_patch is not None and delta.item_patch.num_rows:
        assert ROW in delta.item_patch.column_names
        pq.write_table(delta.item_patch, scratch / f"items/patch-{number:04d}.parquet", **_PARQUET)
    if delta.code_patch is not None and len(delta.code_patch[0]):
        rows, codes_of = delta.code_patch
        arrays = {"rows": rows.astype(np.int64), "codes": np.ascontiguousarray(codes_of)}
        path = scratch / f"codes/patch-{number:04d}.safetensors"
        save_file(arrays, path, metadata=metadata(lineage))
    if delta.ledger is not None and delta.ledger.num_rows:
        pq.write_table(delta.ledger, scratch / f"ledger/part-{number:04d}.parquet", **_PARQUET)


def _parts(scratch: Path, parent: Mapping[str, Any], delta: Delta) -> dict[str, Any]:
    """The parent's parts, and those of the scratch folder: added to its tables, or in their place.

    A patch comes after the delta of its number: it may be of rows that this one adds.
    """

    def below(name: str) -> list[Part]:
        files = sorted(p for p in (scratch / name).rglob("*") if p.is_file())
        return [Part("", p.relative_to(scratch).as_posix(), sha256_of(p)) for p in files]

    parts: dict[str, Any] = {
        name: {m: parts_of(files) for m, files in value.items()}
        if isinstance(value, Mapping)
        else parts_of(value)
        for name, value in parent["parts"].items()
    }
    for name in TABLES:
        parts[name] = [*parts.get(name, []), *below(name)]
        if not parts[name]:
            del parts[name]
    for name in delta.parts:
        room, _, member = name.partition("/")
        if member:
            parts[room] = {**parts[room], member: below(name)}
        else:
            parts[room] = below(name)
    return parts


def _compact(
    scratch: Path, folder: Path, parts: Mapping[str, Any], number: int, lineage: str | None
) -> dict[str, list[Part]]:
    """Whole tables in place of base, deltas and patches. The ledger begins anew on them."""

    def paths(name: str) -> list[Path]:
        return [
            scratch / p.path if not p.release else part_path(folder / "x", p) for p in parts[name]
        ]

    items, codes = grow_items(paths("items")), grow_codes(paths("codes"))
    for name in TABLES:
        shutil.rmtree(scratch / name)
        (scratch / name).mkdir()
    item_path = scratch / f"items/base-{number:04d}.parquet"
    code_path = scratch / f"codes/base-{number:04d}.safetensors"
    pq.write_table(items, item_path, **_PARQUET)
    save_file({"codes": np.ascontiguousarray(codes)}, code_path, metadata=metadata(lineage))
    log.info("compacted %d parts of %d items", len(parts["codes"]), len(codes))
    made = {"items": item_path, "codes": code_path}
    found = {
        name: [Part("", path.relative_to(scratch).as_posix(), sha256_of(path))]
        for name, path in made.items()
    }
    return {**found, "ledger": []}
