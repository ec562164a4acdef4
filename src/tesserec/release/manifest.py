"""A release: one immutable folder `<workdir>/releases/<id>/` and its manifest.

The manifest names every part by file and sha256. A part may lie in an ancestor release; it is then
named there. The id is a hash over the parts and the feature service: equal inputs give equal ids.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tesserec.artifacts import read_manifest
from tesserec.errors import ArtifactError, UsageError

ID_PATTERN = re.compile(r"r[0-9a-f]{11}")
KEYS = ("release_id", "created", "parent", "model", "parts", "files")
KEYS += ("feature_service", "feature_schema_hash")


@dataclass(frozen=True)
class Part:
    """One file of a release: the release that holds it, its path in there and its bytes' hash."""

    release: str
    path: str
    sha256: str


def releases_folder(workdir: Path) -> Path:
    return workdir / "releases"


def release_folder(workdir: Path, release_id: str) -> Path:
    """The folder of a release.

    Raises:
        UsageError: the id is not of the form r + 11 hex digits, or there is no such release.
    """
    if not ID_PATTERN.fullmatch(release_id):
        raise UsageError(f"'{release_id}' is not a release id; they look like r0123456789a")
    folder = releases_folder(workdir) / release_id
    if not folder.is_dir():
        known = ", ".join(sorted(p.name for p in releases_folder(workdir).glob("r*"))) or "none"
        raise UsageError(f"there is no release {release_id} in {workdir}; there are: {known}")
    return folder


def read_release(folder: Path) -> dict[str, Any]:
    """The manifest of a release.

    Raises:
        ArtifactError: no manifest, not JSON, or not that of a release.
    """
    manifest = read_manifest(folder)
    missing = [key for key in KEYS if key not in manifest]
    if missing:
        raise ArtifactError(f"{folder}/manifest.json has no {', '.join(missing)}: not a release")
    return manifest


def release_id_of(parts: Mapping[str, Any], feature_service: str, schema_hash: str) -> str:
    """`r` + 11 hex digits over all parts' paths and hashes, and over the feature service."""
    lines = sorted(f"{name} {part.path} {part.sha256}" for name, part in named_parts(parts))
    text = "\n".join([*lines, f"{feature_service} {schema_hash}"])
    return "r" + hashlib.sha256(text.encode()).hexdigest()[:11]


def named_parts(parts: Mapping[str, Any]) -> Iterator[tuple[str, Part]]:
    """Every part with its place in the tree, e.g. `("models/rpg", Part(...))`."""
    for name, value in parts.items():
        if isinstance(value, Mapping):
            yield from ((f"{name}/{key}", part) for key, part in named_parts(value))
        else:
            yield from ((name, part) for part in parts_of(value))


def parts_of(entries: Sequence[Any]) -> list[Part]:
    """The parts of one entry of the manifest's `parts`."""
    return [
        e if isinstance(e, Part) else Part(e["release"], e["path"], e["sha256"]) for e in entries
    ]


def part_path(folder: Path, part: Part) -> Path:
    """Where a part's file lies: in this release or in the ancestor that it names."""
    return folder.parent / part.release / part.path


def referred(manifest: Mapping[str, Any]) -> set[str]:
    """The releases that hold parts of this one, itself included."""
    return {part.release for _, part in named_parts(manifest["parts"])} | {manifest["release_id"]}


def plain(parts: Mapping[str, Any]) -> dict[str, Any]:
    """`parts` as JSON takes it."""
    return {
        name: plain(value) if isinstance(value, Mapping) else [asdict(p) for p in parts_of(value)]
        for name, value in parts.items()
    }


def read_json(path: Path) -> Any:
    """A JSON file of a release.

    Raises:
        ArtifactError: it is missing or not JSON.
    """
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        raise ArtifactError(f"{path} is missing; run `tesserec release verify`") from None
    except json.JSONDecodeError as error:
        raise ArtifactError(f"{path} is not JSON ({error})") from None
