"""A release folder into what a recommender is made of; equal parts in memory are used, not read.

The manifest names each part by its hash. What another recommender was made of the same parts is
shared with it: items and codes are continued where they end, a model with the same weights
gets the new code table beside them. So two releases side by side cost little more than one.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from safetensors.numpy import load_file

from tesserec.artifacts import read_manifest
from tesserec.decoders import DECODERS
from tesserec.decoders.graph_files import GRAPH
from tesserec.errors import ArtifactError
from tesserec.models.loading import Files, members, model_class, read_model
from tesserec.tables import grow_codes, grow_items

Hashes = dict[str, tuple[str, ...]]  # part, e.g. "codes" or "models/rpg" -> sha256 of its files


@dataclass(frozen=True, kw_only=True)
class Opened:
    """The parts of one release in memory."""

    release_id: str
    hashes: Hashes
    model: Any
    codes: np.ndarray | None
    items: pa.Table
    item_ids: list[str]
    row_of: dict[str, int]
    decoder: dict[str, Any]  # name and options
    ranks: Any  # the decoder itself, if another recommender has it


def open_release(folder: Path, beside: Sequence[Any] = ()) -> Opened:
    """Open a release folder; its parts may lie in ancestors beside it.

    Args:
        beside: recommenders in memory, whose parts are shared if they are the same.

    Raises:
        ArtifactError: the release is incomplete, its parts don't belong together, or it asks for a
            model or a decoder that this version doesn't have.
    """
    manifest = read_manifest(folder)
    name, hashes = str(manifest.get("model", "")), _hashes(manifest)
    needs_codes, decoder = model_class(name).needs_codes, _decoder(folder, manifest)
    codes = _codes(folder, manifest, hashes, beside) if needs_codes else None
    items, item_ids, row_of = _items(folder, manifest, hashes, beside)
    held = _held_models(hashes, beside)
    model = read_model(name, _model_files(folder, manifest, name), codes, len(item_ids), held)
    return Opened(
        release_id=str(manifest.get("release_id", folder.name)),
        hashes=hashes,
        model=model,
        codes=codes,
        items=items,
        item_ids=item_ids,
        row_of=row_of,
        decoder=decoder,
        ranks=_held_decoder(hashes, model, codes, decoder, beside),
    )


def _hashes(manifest: Mapping[str, Any]) -> Hashes:
    parts = manifest.get("parts", {})
    lists = {name: entries for name, entries in parts.items() if isinstance(entries, list)}
    lists |= {f"models/{name}": entries for name, entries in parts.get("models", {}).items()}
    found = {name: tuple(e.get("sha256") or "" for e in es) for name, es in lists.items()}
    return {name: hashes for name, hashes in found.items() if all(hashes)}


def _held(hashes: Hashes, name: str, beside: Sequence[Any]) -> tuple[Any, int]:
    """The recommender that has the most of these parts, from the first on and no others."""
    wanted, best, count = hashes.get(name, ()), None, 0
    for one in beside:
        had = one.hashes.get(name, ())
        if len(had) > count and wanted[: len(had)] == had:
            best, count = one, len(had)
    return best, count


def _items(
    folder: Path, manifest: Mapping[str, Any], hashes: Hashes, beside: Sequence[Any]
) -> tuple[pa.Table, list[str], dict[str, int]]:
    entries = _entries(manifest.get("parts", {}), "items", "items/base-0000.parquet")
    held, count = _held(hashes, "items", beside)
    if held is not None and count == len(entries):
        return held.items, held.item_ids, held.row_of
    items = grow_items(
        [_part(folder, manifest, entry) for entry in entries[count:]], held.items if held else None
    )
    known = len(held.item_ids) if held else 0
    if held is not None and known == items.num_rows:  # rows were replaced, none added
        return items, held.item_ids, held.row_of
    ids = list(held.item_ids) if held else []
    ids += items.column("item_id").slice(known).to_pylist()
    return items, ids, {item: row for row, item in enumerate(ids)}


def _codes(
    folder: Path, manifest: Mapping[str, Any], hashes: Hashes, beside: Sequence[Any]
) -> np.ndarray:
    entries = _entries(manifest.get("parts", {}), "codes", "codes/base-0000.safetensors")
    held, count = _held(hashes, "codes", beside)
    if held is not None and count == len(entries):
        return held.codes
    new = [_part(folder, manifest, entry) for entry in entries[count:]]
    return grow_codes(new, held.codes if held else None)


def _held_models(hashes: Hashes, beside: Sequence[Any]) -> dict[str, Any]:
    """Trained models in memory whose files are those of this release, by name."""
    found = {}
    for one in beside:
        for name, model in one.trained_models().items():
            key = f"models/{name}"
            if key in hashes and hashes[key] == one.hashes.get(key):
                found[name] = model
    return found


def _held_decoder(
    hashes: Hashes,
    model: Any,
    codes: np.ndarray | None,
    decoder: Mapping[str, Any],
    beside: Sequence[Any],
) -> Any:
    """A decoder in memory for the same code table; one that looks at the model isn't shared."""
    if codes is None or hasattr(model, "scorer") or decoder.get("name") == "graph":
        return None
    if "aliases" in decoder:
        return None
    for one in beside:
        same = one.codes is codes and one.hashes.get("decoder") == hashes.get("decoder")
        mine = [getattr(m, "shape", None) for m in one.trained_models().values()]
        if same and [getattr(s, "codebook_size", None) for s in mine] == [
            model.shape.codebook_size
        ]:
            return one.decoder
    return None


def _entries(parts: Mapping[str, Any], name: str, default: str) -> list[Any]:
    return list(parts.get(name) or [{"path": default}])


def _part(folder: Path, manifest: Mapping[str, Any], entry: Mapping[str, Any]) -> Path:
    """Where a part lies: in this release, or in the ancestor that it names."""
    release = entry.get("release")
    home = folder if release in (None, manifest.get("release_id")) else folder.parent / str(release)
    path = home / entry["path"]
    if not path.exists():
        raise ArtifactError(f"release {folder} refers to {path}, which isn't there; run verify")
    return path


def _model_files(folder: Path, manifest: Mapping[str, Any], name: str) -> Files:
    """The files of this release's model and of its parts; each may lie in another ancestor."""
    home, entries = folder / "models", manifest.get("parts", {}).get("models") or {}
    found = {m: {file: home / m / file for file in files} for m, files in members(name).items()}
    for member in found:
        for entry in entries.get(member) or []:
            found[member][Path(entry["path"]).name] = _part(folder, manifest, entry)
    return found


def _decoder(folder: Path, manifest: Mapping[str, Any]) -> dict[str, Any]:
    """Name and options of the release's decoder; refuses one that this version doesn't have."""
    entries = manifest.get("parts", {}).get("decoder") or []
    paths = {Path(e["path"]).name: _part(folder, manifest, e) for e in entries}
    found: dict[str, Any] = {}
    if "decoder.json" in paths:
        found = _decoder_json(paths["decoder.json"])
    if found.get("name", "auto") not in ("auto", *DECODERS):
        raise ArtifactError(
            f"release {folder} asks for decoder {found['name']!r}, this version has "
            f"{', '.join(DECODERS)}; use the version that made it"
        )
    aliases = manifest.get("parts", {}).get("aliases")
    if aliases:
        found["aliases"] = load_file(_part(folder, manifest, aliases[0]))
    if found.get("name") == "graph":
        if GRAPH not in paths:
            raise ArtifactError(f"release {folder} has no {GRAPH} for its decoder; build it anew")
        found["saved"] = paths[GRAPH]
    return found


def _decoder_json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise ArtifactError(
            f"{path} is no readable JSON ({error}); run `tesserec release verify`, and build the "
            "release anew"
        ) from None
    if not isinstance(found, dict):
        raise ArtifactError(
            f"{path} holds no name and options of a decoder; build the release anew"
        )
    return found
