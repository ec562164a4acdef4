"""Artefacts: content-keyed folders that are complete or do not exist.

An artefact lies in ``<workdir>/artifacts/<kind>-<key>/``. Its key is a hash of the kind, the
parameters, the contents of its parents and the step's integer VERSION. It is written to a hidden
folder beside it, gets ``manifest.json`` last, and appears by one rename.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tesserec.errors import ArtifactError

MANIFEST = "manifest.json"
SCHEMA_VERSION = 1


@dataclass(frozen=True)
class Artifact:
    """A finished artefact: its folder and its parsed manifest."""

    path: Path
    manifest: Mapping[str, Any]

    @property
    def kind(self) -> str:
        return self.manifest["kind"]

    @property
    def key(self) -> str:
        return self.manifest["key"]

    @property
    def content_hash(self) -> str:
        """Hash over names and bytes of all files; equal contents give equal hashes."""
        return self.manifest["content_hash"]

    def file(self, name: str) -> Path:
        """Path of one of the artefact's files or folders.

        Raises:
            ArtifactError: the artefact has no such file.
        """
        path = self.path / name
        if not path.exists():
            raise ArtifactError(
                f"artefact {self.path} has no '{name}'; delete the folder and run again"
            )
        return path

    def read_json(self, name: str) -> Any:
        return json.loads(self.file(name).read_text())

    def pointer(self) -> dict[str, str]:
        """What travels between pipeline steps: id, URI and content hash, not the bytes."""
        return {
            "id": f"{self.kind}-{self.key}",
            "uri": str(self.path),
            "content_hash": self.content_hash,
        }


def artifact_key(
    kind: str, *, params: Mapping[str, Any], parents: Sequence[Artifact], version: int
) -> str:
    """16 hex digits that name what an artefact is made of."""
    recipe = [kind, version, params, [[p.kind, p.content_hash] for p in parents]]
    text = json.dumps(recipe, sort_keys=True, default=str, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def build(
    workdir: Path,
    kind: str,
    *,
    params: Mapping[str, Any],
    parents: Sequence[Artifact],
    version: int,
    make: Callable[[Path], None],
) -> tuple[Artifact, bool]:
    """Return the artefact of this recipe and whether it was there already; else `make` it.

    `make` writes all files into the empty folder it is given. If it raises or the process dies,
    nothing is visible to readers; the leftover is cleared by the next call.
    """
    key = artifact_key(kind, params=params, parents=parents, version=version)
    final = workdir / "artifacts" / f"{kind}-{key}"
    if (final / MANIFEST).is_file():
        return open_artifact(final), True
    if final.exists():  # a folder without a manifest does not exist to a reader
        shutil.rmtree(final)
    scratch = final.with_name(f".tmp-{final.name}")
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    make(scratch)
    write_manifest(
        scratch,
        {
            "kind": kind,
            "key": key,
            "schema_version": SCHEMA_VERSION,
            "version": version,
            "params": dict(params),
            "parents": [p.pointer() for p in parents],
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
        },
    )
    os.replace(scratch, final)
    fsync_folder(final.parent)
    return open_artifact(final), False


def discard(artifact: Artifact) -> None:
    """Delete an artefact whose step is to be done again: first it ceases to exist to readers."""
    (artifact.path / MANIFEST).unlink(missing_ok=True)
    shutil.rmtree(artifact.path)


def open_artifact(path: Path, *, verify: bool = False) -> Artifact:
    """Open a finished artefact.

    Raises:
        ArtifactError: no manifest, or (with `verify`) a file whose bytes differ from the manifest.
    """
    manifest = read_manifest(Path(path))
    if verify:
        problems = check_files(Path(path), manifest["files"])
        if problems:
            raise ArtifactError(f"artefact {path} is damaged: {'; '.join(problems[:3])}")
    return Artifact(Path(path), manifest)


def write_manifest(folder: Path, fields: Mapping[str, Any]) -> dict[str, Any]:
    """Hash every file below `folder`, flush it, and write `manifest.json` last."""
    files: dict[str, dict[str, Any]] = {}
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        name = path.relative_to(folder).as_posix()
        if name == MANIFEST:
            continue
        with path.open("rb") as handle:
            os.fsync(handle.fileno())
        files[name] = {"sha256": sha256_of(path), "bytes": path.stat().st_size}
    manifest = {**fields, "files": files, "content_hash": hash_of_files(files)}
    write_atomic(folder / MANIFEST, json.dumps(manifest, indent=1, default=str))
    return manifest


def read_manifest(folder: Path) -> dict[str, Any]:
    """Parse the manifest of a folder.

    Raises:
        ArtifactError: there is none, or it isn't JSON: the folder does not exist to a reader.
    """
    path = folder / MANIFEST
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        raise ArtifactError(f"{folder} is not a finished artefact: it has no {MANIFEST}") from None
    except json.JSONDecodeError as error:
        raise ArtifactError(f"{path} is not valid JSON ({error}); delete the folder") from None


def check_files(
    folder: Path,
    files: Mapping[str, Mapping[str, Any]],
    sha256: Callable[[Path], str] | None = None,
) -> list[str]:
    """Hash the listed files; one line for each that is missing or differs.

    Args:
        sha256: of a file's bytes; None: every file is read (`sha256_of`).
    """
    sha256 = sha256 or sha256_of
    problems = []
    for name, entry in files.items():
        path = folder / name
        if not path.is_file():
            problems.append(f"{name} is missing")
        elif (found := sha256(path)) != (stated := entry["sha256"]):
            problems.append(
                f"{name} has other bytes than its manifest says: {found[:12]}, not {stated[:12]}"
            )
    return problems


def hash_of_files(files: Mapping[str, Mapping[str, Any]]) -> str:
    """One hash for a set of named files with their sha256."""
    lines = "".join(f"{name} {files[name]['sha256']}\n" for name in sorted(files))
    return hashlib.sha256(lines.encode()).hexdigest()


def sha256_of(path: Path) -> str:
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def write_atomic(path: Path, text: str) -> None:
    """Write a small file so that readers see the old or the new text, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # two threads may write the same file
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}.tmp")
    with temporary.open("w") as handle:
        handle.write(text)
        handle.flush()
        os.fsync(handle.fileno())
    os.replace(temporary, path)
    fsync_folder(path.parent)


def fsync_folder(path: Path) -> None:
    """Make a rename inside `path` survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
