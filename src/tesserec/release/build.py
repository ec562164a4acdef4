"""Make a release folder of finished artefacts: gather, check, hash, appear by one rename."""

from __future__ import annotations

import json
import logging
import os
import shutil
from collections.abc import Callable, Collection, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tesserec import __version__
from tesserec.artifacts import Artifact, fsync_folder, sha256_of, write_atomic, write_manifest
from tesserec.decoders.graph_files import GRAPH
from tesserec.errors import ArtifactError
from tesserec.models.loading import files_of, members
from tesserec.release.manifest import Part, plain, release_id_of, releases_folder
from tesserec.release.pointer import promoted
from tesserec.release.verify import verify

if TYPE_CHECKING:
    import pyarrow as pa

log = logging.getLogger(__name__)
CODES = "codes/base-0000.safetensors"
ITEMS = "items/base-0000.parquet"
PROFILE_COLUMNS = ("item_id", "title", "brand", "categories", "price", "available", "listed_at")
COUNT_COLUMNS = ("count_all", "count_30d")
ALIASES = "aliases.safetensors"  # of codes that were made anew: those from before
CONTENT_HASH = "content"  # tells later whether an item was edited


def build_release(
    workdir: Path,
    *,
    features: Artifact,
    store: Artifact,
    coded: tuple[Artifact, Artifact] | None,
    model: Artifact,
    metrics: Artifact,
    model_name: str,
    trained: Collection[str] | None = None,
    raw: Artifact | None = None,
    config: Mapping[str, Any] | None = None,
    decoder: Mapping[str, Any] | None = None,
    graph: Artifact | None = None,
    report: Callable[[Path, str], None] | None = None,
    more: Mapping[str, Any] | None = None,
) -> str:
    """Gather the parts of a release and return its id; the same parts again change nothing.

    Args:
        coded: vectors and codes, with encoder and tokenizer; None for a model without codes.
        trained: of such a model, the ids of the items that it was trained on.
        config: of the run; a re-tokenization goes on with it.
        graph: the artefact with the graph that decoder `graph` walks on.
        report: writes the release's `report.html` to the path that it is given, beside the id.
        more: further fields of the manifest.

    Raises:
        ArtifactError: an artefact lacks a file, or codes, vectors and items have other rows.
    """
    items = release_items(features, coded, trained or ())
    folder = releases_folder(workdir)
    clear_leftovers(folder)
    scratch = folder / f".tmp-{os.getpid()}"
    scratch.mkdir(parents=True)
    _write_items(scratch / ITEMS, items)
    if coded is not None:
        vectors, codes = coded
        _copy(codes.file("codes.safetensors"), scratch / CODES)
        _copy(vectors.file("encoder"), scratch / "encoder")
        _copy(codes.file("tokenizer"), scratch / "tokenizer")
    for member, files in files_of(model_name, model.path).items():
        for name, path in files.items():
            _copy(_there(path), scratch / "models" / member / name)
    if coded is not None and (coded[1].path / ALIASES).is_file():
        _copy(coded[1].file(ALIASES), scratch / "aliases" / ALIASES)
    if graph is not None:
        _copy(graph.file(GRAPH), scratch / "decoder" / GRAPH)
    text = json.dumps(dict(decoder or {"name": "auto"}), indent=1, sort_keys=True)
    write_atomic(scratch / "decoder" / "decoder.json", text)

    facts = store.read_json("store.json")
    parts = gather_parts(scratch, model_name)
    release_id = release_id_of(parts, facts["service"], facts["schema_hash"])
    sources = (raw, features, store, *(coded or ()), model, graph, metrics)
    fields = {
        "release_id": release_id,
        "created": datetime.now(UTC).isoformat(timespec="microseconds"),
        "parent": _parent(workdir, release_id),
        "model": model_name,
        "feature_service": facts["service"],
        "feature_schema_hash": facts["schema_hash"],
        "watermark": facts["watermark"],
        "sources": {a.kind: a.key for a in sources if a is not None},
        "config": dict(config) if config else None,
        "parts": plain(owned_parts(parts, release_id)),
        "tesserec_version": __version__,
        **(more or {}),
    }
    figures = {**metrics.read_json("metrics.json"), "release_id": release_id}
    write_atomic(scratch / "metrics.json", json.dumps(figures, indent=1))
    if report:
        report(scratch / "report.html", release_id)
    publish(scratch, folder / release_id, fields)
    return release_id


def gather_parts(folder: Path, model_name: str) -> dict[str, Any]:
    """The manifest's `parts` of a complete folder; `release` is empty until the id is known."""

    def below(name: str) -> list[Part]:
        files = sorted(p for p in (folder / name).rglob("*") if p.is_file())
        return [Part("", p.relative_to(folder).as_posix(), sha256_of(p)) for p in files]

    names = ("codes", "items", "encoder", "tokenizer", "decoder", "aliases")
    found: dict[str, Any] = {name: below(name) for name in names if (folder / name).is_dir()}
    return found | {"models": {member: below(f"models/{member}") for member in members(model_name)}}


def release_items(
    features: Artifact, coded: tuple[Artifact, Artifact] | None, trained: Collection[str]
) -> pa.Table:
    """The items in the release's row order: profile, `trained`, and interaction counts.

    `coded` are vectors and codes, whose rows must be those of the profile; without them `trained`
    are the ids of the items trained on.

    Raises:
        ArtifactError: profile, vectors and codes don't hold the same items in the same order.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    from tesserec.data.content import content_hashes

    profile = pq.read_table(features.file("item_profile")).sort_by("row")
    ids = profile["item_id"].combine_chunks()
    for artifact in coded or ():
        other = pq.read_table(artifact.file("item_ids.parquet"))["item_id"].combine_chunks()
        if not ids.equals(other.cast(ids.type)):
            raise ArtifactError(
                f"{artifact.path.name} has other item rows ({len(other)}) than item_profile "
                f"({len(ids)}); they stem from different runs: delete both and run again"
            )
    if coded is not None:
        flags = pq.read_table(coded[1].file("item_ids.parquet"))["trained"]
    else:
        flags = pa.array([item in trained for item in ids.to_pylist()], pa.bool_())
    stats = pq.read_table(features.file("item_stats"))
    items = profile.select(PROFILE_COLUMNS).append_column("trained", flags)
    items = items.append_column(CONTENT_HASH, content_hashes(profile))
    for name in COUNT_COLUMNS:
        items = items.append_column(
            name, pa.array(interaction_counts(ids.to_pylist(), stats, name), pa.int64())
        )
    return items.combine_chunks()


def interaction_counts(ids: list[str], stats: pa.Table, name: str) -> list[int]:
    """A count of each item from the table of statistics; 0 of an item that it doesn't name."""
    if name not in stats.column_names:
        return [0] * len(ids)
    if "event_timestamp" in stats.column_names:  # the newest row of an item is written last
        stats = stats.sort_by("event_timestamp")
    known = dict(zip(stats["item_id"].to_pylist(), stats[name].to_pylist(), strict=True))
    return [int(known.get(item) or 0) for item in ids]


def _write_items(path: Path, items: pa.Table) -> None:
    import pyarrow.parquet as pq

    path.parent.mkdir(parents=True)
    pq.write_table(items, path, compression="zstd")


def _there(path: Path) -> Path:
    if not path.is_file():
        raise ArtifactError(f"there is no {path}; delete its artefact and run again")
    return path


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        shutil.copytree(source, target, copy_function=shutil.copyfile)
    else:
        shutil.copyfile(source, target)


def clear_leftovers(folder: Path) -> None:
    """Delete what a killed process left half-built; a live one's folder stays."""
    for scratch in folder.glob(".tmp-*"):
        pid = scratch.name.removeprefix(".tmp-")
        if pid == str(os.getpid()) or not Path("/proc", pid).exists():
            shutil.rmtree(scratch, ignore_errors=True)


def owned_parts(parts: Mapping[str, Any], release_id: str) -> dict[str, Any]:
    """`parts` with the release's id wherever a part is its own."""
    return {
        name: owned_parts(value, release_id)
        if isinstance(value, Mapping)
        else [Part(part.release or release_id, part.path, part.sha256) for part in value]
        for name, value in parts.items()
    }


def _parent(workdir: Path, release_id: str) -> str | None:
    former = promoted(workdir)
    return former if former != release_id else None


def publish(scratch: Path, final: Path, fields: Mapping[str, Any]) -> None:
    """The manifest last, then one rename; a sound release that exists stays as it is."""
    if (final / "manifest.json").is_file() and not verify(final):
        log.info("release %s is there already", final.name)
        shutil.rmtree(scratch)
        return
    write_manifest(scratch, fields)
    if final.exists():
        shutil.rmtree(final)
    os.replace(scratch, final)
    fsync_folder(final.parent)
