"""List releases, and delete those that nothing needs any more."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

from tesserec.errors import ArtifactError
from tesserec.release.manifest import (
    part_path,
    parts_of,
    read_json,
    read_release,
    referred,
    releases_folder,
)
from tesserec.release.pointer import pointer_lock, promoted, read_pointer
from tesserec.tables import is_patch

KEEP_LAST = 3


def list_releases(workdir: Path) -> list[dict[str, Any]]:
    """All finished releases, newest first, with the keys of `tesserec release list --json`."""
    served = promoted(workdir)
    rows = [_row(folder, manifest, served) for folder, manifest in _finished(workdir)]
    return sorted(rows, key=lambda row: (row["created"], row["release_id"]), reverse=True)


def prune(workdir: Path, *, keep: int = KEEP_LAST) -> list[str]:
    """Delete all but the promoted release, the one before, the candidate and the newest `keep`.

    What these refer to stays too. Returns the deleted ids. A folder vanishes by one rename before
    its files are deleted.
    """
    with pointer_lock(workdir):
        for leftover in releases_folder(workdir).glob(".deleted-*"):  # of a killed call
            shutil.rmtree(leftover, ignore_errors=True)
        manifests = {manifest["release_id"]: manifest for _, manifest in _finished(workdir)}
        newest = (
            sorted(manifests, key=lambda i: (manifests[i]["created"], i))[-keep:] if keep else []
        )
        pointer = read_pointer(workdir) or {}
        named = {pointer.get("release_id"), pointer.get("previous")}
        named.add((pointer.get("candidate") or {}).get("release_id"))
        wanted = {*newest, *named} & manifests.keys()
        for release_id in list(wanted):
            wanted |= referred(manifests[release_id])
        doomed = sorted(manifests.keys() - wanted)
        for release_id in doomed:
            _delete(releases_folder(workdir) / release_id)
        return doomed


def _delete(folder: Path) -> None:
    hidden = folder.with_name(f".deleted-{folder.name}-{os.getpid()}")
    os.replace(folder, hidden)
    shutil.rmtree(hidden)


def _finished(workdir: Path) -> list[tuple[Path, dict[str, Any]]]:
    found = []
    for folder in sorted(releases_folder(workdir).glob("r*")):
        try:
            found.append((folder, read_release(folder)))
        except ArtifactError:  # a folder without a valid manifest does not exist to a reader
            continue
    return found


def _row(folder: Path, manifest: dict[str, Any], served: str | None) -> dict[str, Any]:
    import pyarrow.parquet as pq

    parts = [p for p in parts_of(manifest["parts"]["items"]) if not is_patch(p.path)]
    metrics = folder / "metrics.json"
    return {
        "release_id": manifest["release_id"],
        "parent": manifest["parent"],
        "created": manifest["created"],
        "promoted": manifest["release_id"] == served,
        "model": manifest["model"],
        "items": sum(pq.read_metadata(part_path(folder, part)).num_rows for part in parts),
        "metrics": read_json(metrics) if metrics.is_file() else None,
    }
