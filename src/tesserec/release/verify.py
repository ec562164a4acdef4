"""Does a release hold what its manifest says, and do its parts belong together?"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tesserec.artifacts import check_files, sha256_of
from tesserec.decoders.graph_files import GRAPH, read_graph
from tesserec.errors import ArtifactError
from tesserec.lineage import KEY, LINEAGE, lineage_of
from tesserec.models.loading import members
from tesserec.release.manifest import (
    named_parts,
    part_path,
    parts_of,
    read_json,
    read_release,
    release_id_of,
)
from tesserec.tables import grow_codes, is_patch

RACE_S = 2.0  # a file changed less long ago may change again with the same times


class Hashes:
    """sha256 of files, remembered for as long as inode, size and times stay the same.

    The time of a file's last change (ctime) can't be set back by a program, so other bytes under
    the same name are found out.
    """

    def __init__(self) -> None:
        self._known: dict[Path, tuple[tuple[int, ...], str]] = {}

    def __call__(self, path: Path) -> str:
        stamp, known = _stamp(path), self._known.get(path)
        if known is not None and known[0] == stamp:
            return known[1]
        found = sha256_of(path)
        if _stamp(path) == stamp and time.time() - stamp[-1] / 1e9 > RACE_S:
            self._known[path] = (stamp, found)
        return found


def _stamp(path: Path) -> tuple[int, ...]:
    stat = path.stat()
    return stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns


def verify(folder: Path, sha256: Callable[[Path], str] = sha256_of) -> list[str]:
    """Hash a release's files and its parts in ancestors; one line a problem, [] if sound.

    Args:
        sha256: of a file's bytes; a `Hashes` reads only files that it hasn't read before.
    """
    try:
        manifest = read_release(folder)
    except ArtifactError as error:
        return [str(error)]
    problems = check_files(folder, manifest["files"], sha256)
    problems += _names(folder, manifest)
    for name, part in named_parts(manifest["parts"]):
        path = part_path(folder, part)
        if not path.is_file():
            problems.append(f"part {name} is missing: {part.release}/{part.path}")
        elif part.release != manifest["release_id"]:
            found = sha256(path)
            if found != part.sha256:
                problems.append(
                    f"part {name} has other bytes than its manifest says: {part.path} in "
                    f"{part.release} is {found[:12]}, not {part.sha256[:12]}"
                )
        else:
            stated = str(manifest["files"].get(part.path, {}).get("sha256"))
            if stated != part.sha256:
                problems.append(
                    f"part {name} and the file list name different hashes: {part.path} is "
                    f"{part.sha256[:12]} and {stated[:12]}"
                )
    return problems or _belong_together(folder, manifest)


def require_sound(folder: Path, sha256: Callable[[Path], str] = sha256_of) -> None:
    """Raise if `verify` finds anything.

    Raises:
        ArtifactError: names the release, the first problems and the remedy.
    """
    problems = verify(folder, sha256)
    if problems:
        raise ArtifactError(
            f"release {folder.name} is damaged: {'; '.join(problems[:3])}; "
            f"roll back, or delete {folder} and run its configuration again"
        )


def _names(folder: Path, manifest: Mapping[str, Any]) -> list[str]:
    stated = manifest["release_id"]
    real = release_id_of(
        manifest["parts"], manifest["feature_service"], manifest["feature_schema_hash"]
    )
    if stated != real:
        return [f"the manifest's id {stated} is not the hash of its parts ({real})"]
    if folder.name != stated:
        return [f"the folder is called {folder.name}, its manifest says {stated}"]
    return []


def _belong_together(folder: Path, manifest: Mapping[str, Any]) -> list[str]:
    """Row counts and digit counts agree over items, codes and models."""
    import pyarrow.parquet as pq

    parts = manifest["parts"]
    whole = [p for p in parts_of(parts["items"]) if not is_patch(p.path)]
    items = sum(pq.read_metadata(part_path(folder, p)).num_rows for p in whole)
    problems = [*_missing(manifest), *_decoder(folder, manifest)]
    digits: set[int] = set()
    if "codes" in parts:  # a model without codes has none
        sizes = {p.path: _code_shape(part_path(folder, p)) for p in parts_of(parts["codes"])}
        rows = sum(size[0] for path, size in sizes.items() if not is_patch(path))
        digits = {size[1] for size in sizes.values()}
        if rows != items:
            problems.append(f"codes have {rows} rows, items {items}: they are not of one release")
        if len(digits) != 1:
            problems.append(f"code parts have different numbers of digits: {sorted(digits)}")
        else:
            problems += [*_lineages(folder, parts), *_ledger(folder, parts)]
    for name, model in parts.get("models", {}).items():
        for part in (p for p in parts_of(model) if p.path.endswith("model.json")):
            shape = read_json(part_path(folder, part)).get("shape", {})
            stated = shape.get("digits")
            if stated is not None and {stated} != digits:
                told = sorted(digits) or "are missing"
                problems.append(f"model {name} has {stated} digits, the codes {told}")
            known = max(shape.get("items", 0), shape.get("id_vectors", 0))
            if known > items:
                problems.append(
                    f"model {name} was trained with {known} items, the release has {items}"
                )
    return problems


def _missing(manifest: Mapping[str, Any]) -> list[str]:
    """Files that the model, or a part that it mixes, should have."""
    try:
        wanted = members(manifest["model"])
    except ArtifactError as error:
        return [str(error)]
    models = manifest["parts"].get("models", {})
    had = {name: {Path(p.path).name for p in parts_of(models.get(name, []))} for name in wanted}
    return [
        f"model {name} has no {file}"
        for name, files in wanted.items()
        for file in files
        if file not in had[name]
    ]


def _decoder(folder: Path, manifest: Mapping[str, Any]) -> list[str]:
    """A decoder that walks on a graph has one, made for these codes."""
    parts = manifest["parts"]
    paths = {Path(p.path).name: part_path(folder, p) for p in parts_of(parts.get("decoder", []))}
    if "decoder.json" not in paths or read_json(paths["decoder.json"]).get("name") != "graph":
        return []
    if GRAPH not in paths:
        return [f"decoder graph has no {GRAPH}"]
    try:
        codes = grow_codes([part_path(folder, p) for p in parts_of(parts.get("codes", []))])
        read_graph(paths[GRAPH], codes)
    except ArtifactError as error:
        return [str(error)]
    return []


def _lineages(folder: Path, parts: Mapping[str, Any]) -> list[str]:
    """Tokenizer, codes and models carry one lineage; parts from before there was one carry none."""
    told = [part_path(folder, p) for p in parts_of(parts.get("tokenizer", []))]
    home = next((path.parent for path in told if path.name == LINEAGE), None)
    wanted = None if home is None else lineage_of(home)
    if wanted is None:
        return []
    found = {p.path: _lineage_of_codes(part_path(folder, p)) for p in parts_of(parts["codes"])}
    for name, model in parts.get("models", {}).items():
        for part in (p for p in parts_of(model) if p.path.endswith("model.json")):
            found[f"model {name}"] = read_json(part_path(folder, part)).get(KEY)
    return [
        f"{name} is of lineage {lineage}, the tokenizer of {wanted}: their codes mean other things"
        for name, lineage in found.items()
        if lineage is not None and lineage != wanted
    ]


def _lineage_of_codes(path: Path) -> str | None:
    from safetensors import safe_open

    with safe_open(path, framework="numpy") as file:
        return (file.metadata() or {}).get(KEY)


def _ledger(folder: Path, parts: Mapping[str, Any]) -> list[str]:
    """Base and ledger give the code table that base, deltas and patches give."""
    if not parts.get("ledger"):
        return []
    from tesserec.retokenization.ledger import read_ledger, replay

    paths = [part_path(folder, p) for p in parts_of(parts["codes"])]
    entries = read_ledger([part_path(folder, p) for p in parts_of(parts["ledger"])])
    try:
        table = replay(grow_codes(paths[:1]), entries)
        same = np.array_equal(table, grow_codes(paths))
    except ArtifactError as error:
        return [str(error)]
    return [] if same else ["the ledger replays to another code table than the release has"]


def _code_shape(path: Path) -> tuple[int, int]:
    from safetensors import safe_open

    with safe_open(path, framework="numpy") as file:
        rows, digits = file.get_slice("codes").get_shape()
    return rows, digits
