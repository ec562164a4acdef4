"""Source rows -> the raw artefact's files: typed interactions and items, refused rows beside them.

Everything is read as a stream; what stays in memory is one number a user and the ids of the items.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from tesserec.artifacts import hash_of_files, sha256_of
from tesserec.config import DataConfig, EncoderConfig, TokenizerConfig
from tesserec.data.clean import InteractionCleaner, ItemCleaner
from tesserec.data.compute import pc
from tesserec.data.given_codes import codes_file, join_codes
from tesserec.data.make import GENERATOR_VERSION
from tesserec.data.parts import Catalogue, Parts, note_unused
from tesserec.data.quarantine import Quarantine
from tesserec.data.records import Chunk, Counts, Source
from tesserec.data.schemas import INTERACTIONS
from tesserec.data.sources import SOURCES
from tesserec.data.sources.eventlog import EventLog
from tesserec.data.vectors import join_vectors, vectors_file
from tesserec.errors import DataError

CLOCK_TOLERANCE = 86_400  # seconds by which a source's clock may be ahead of ours


def open_source(config: DataConfig, seed: int) -> Source:
    """The configured source, its files found.

    Raises:
        UsageError, DataError: a file is not there, or empty.
    """
    return SOURCES[config.source](config, seed)


def ingest_params(
    config: DataConfig,
    encoder: EncoderConfig,
    seed: int,
    log: EventLog,
    tokenizer: TokenizerConfig | None = None,
) -> dict[str, Any]:
    """What the raw artefact depends on: settings and the hash of every byte it reads."""
    source = open_source(config, seed)
    params: dict[str, Any] = {
        "source": config.source,
        "columns": {table: dict(names) for table, names in config.columns.items()},
        "list_separator": config.list_separator,
        "time_unit": config.time_unit,
        "max_bad_share": config.max_bad_share,
        "files": [[path.name, sha256_of(path)] for path in source.files()],
        "log": log.sha256 if log.bytes else None,
        "vectors": None,
    }
    if config.source == "generated":
        shop = [GENERATOR_VERSION, config.generated_users, config.generated_items, seed]
        novel = config.generated_novel
        params["shop"] = [*shop, novel] if novel else shop
    if encoder.name == "precomputed":
        path = vectors_file(Path(config.path), encoder.vectors)
        params["vectors"] = [path.name, sha256_of(path)]
    if tokenizer and tokenizer.name == "given":
        path = codes_file(Path(config.path), tokenizer.codes)
        shape = [tokenizer.digits, tokenizer.codebook_size]
        params["codes"] = [path.name, sha256_of(path), *shape]
    return params


def ingest(
    config: DataConfig,
    encoder: EncoderConfig,
    seed: int,
    out: Path,
    *,
    log: EventLog | None = None,
    tokenizer: TokenizerConfig | None = None,
    now: float | None = None,
) -> dict[str, Any]:
    """Write interactions/, items/, quarantine.parquet, counts.json (vectors/, codes/) into `out`.

    Returns the counts. Times later than a day after `now` (seconds) lie in the future.

    Raises:
        DataError: a source that is refused as a whole, nothing left, or more than
            `data.max_bad_share` of the rows refused; `out/quarantine.parquet` is complete then too.
    """
    source = open_source(config, seed)
    counts = Counts()
    latest = int((time.time() if now is None else now) + CLOCK_TOLERANCE)
    unit = source.time_unit
    with Quarantine(out / "quarantine.parquet", counts) as quarantine:
        catalogue = Catalogue(
            ItemCleaner(time_unit=unit, separator=config.list_separator, counts=counts)
        )
        if source.has_items:
            catalogue.read(source, out / "items", quarantine, counts)
        cleaner = InteractionCleaner(
            catalogue.cleaner.known if source.has_items else None,
            has_times=_has_times(source),
            time_unit=unit,
            latest=latest,
            counts=counts,
        )
        from_log = _interactions(source, log, cleaner, out / "interactions", quarantine, counts)
        if not source.has_items:
            catalogue.of_ids(list(cleaner.new_items), out / "items", counts)
    _check(counts, quarantine, config.max_bad_share)
    _check_texts(counts, config.max_bad_share)
    dim = None
    ids, rows = pa.array(catalogue.ids, pa.string()), np.array(catalogue.rows, np.int64)
    if tokenizer and tokenizer.name == "given":
        path = codes_file(Path(config.path), tokenizer.codes)
        join_codes(path, tokenizer, ids, rows, catalogue.total, out / "codes")
    if encoder.name == "precomputed":
        path = vectors_file(Path(config.path), encoder.vectors)
        dim = join_vectors(path, ids, rows, catalogue.total, out / "vectors")
    summary = _summary(config, source, counts, cleaner, from_log, dim)
    (out / "counts.json").write_text(json.dumps(summary, indent=1, ensure_ascii=False))
    return summary


def _check_texts(counts: Counts, most: float) -> None:
    """Refuse items whose texts are in another encoding: one bad cell is mended, most are not."""
    for what, cells in counts.repaired["items"].items():
        if "is not UTF-8" in what and cells > most * counts.read["items"]:
            raise DataError(
                f"{cells} of {counts.read['items']} items: {what.partition(':')[0]}; save the file "
                f"as UTF-8 (more than data.max_bad_share = {most:g} would lose letters)"
            )


def describe(config: DataConfig, seed: int = 1) -> dict[str, Any]:
    """What a run would take in of this source: {path, users, items, interactions, bytes, sha256}.

    `sha256` is that of a lone source file, else one over all of them.

    Raises:
        UsageError, DataError: as `ingest`.
    """
    entries = {p.name: {"sha256": sha256_of(p)} for p in open_source(config, seed).files()}
    with tempfile.TemporaryDirectory() as scratch:
        counts = ingest(config, EncoderConfig(), seed, Path(scratch))
    hashes = [entry["sha256"] for entry in entries.values()]
    return {
        "path": config.path,
        "users": counts["users"],
        "items": counts["kept"]["items"],
        "interactions": counts["kept"]["interactions"],
        "bytes": sum(file["bytes"] for file in counts["files"]),
        "sha256": hashes[0] if len(hashes) == 1 else hash_of_files(entries),
    }


def _interactions(
    source: Source,
    log: EventLog | None,
    cleaner: InteractionCleaner,
    out: Path,
    quarantine: Quarantine,
    counts: Counts,
) -> int:
    """Clean and write the source's interactions, then the log's; returns how many are the log's."""
    parts = Parts(out, INTERACTIONS)

    def take(chunks: Iterator[Chunk]) -> int:
        kept = 0
        for chunk in chunks:
            note_unused("interactions", chunk, counts)
            table, reasons = cleaner.clean(chunk)
            quarantine.add("interactions", chunk, reasons)
            parts.write(table)
            counts.read["interactions"] += len(reasons) + len(chunk.bad)
            kept += table.num_rows
        return kept

    counts.kept["interactions"] = take(source.interactions())
    from_log = take(log.chunks()) if log else 0
    counts.kept["interactions"] += from_log
    parts.close()
    return from_log


def _has_times(source: Source) -> bool:
    """Whether any row of the source has a time; reads up to the first one that has."""
    for chunk in source.interactions():
        if "timestamp" in chunk.table.column_names:
            column = chunk.table["timestamp"]
            if pa.types.is_string(column.type):
                column = pc.utf8_trim_whitespace(column)
                if pc.any(pc.not_equal(column, "")).as_py():
                    return True
            elif column.null_count < len(column):
                return True
    return False


def _check(counts: Counts, quarantine: Quarantine, max_bad_share: float) -> None:
    for table in ("items", "interactions"):
        read, bad = counts.read[table], counts.bad(table)
        reasons = sorted(counts.quarantined[table].items(), key=lambda entry: -entry[1])
        told = "; ".join(f"{reason}: {n}" for reason, n in reasons[:3])
        examples = " | ".join(quarantine.examples[table])
        if not read:
            raise DataError(
                f"there are no {table}: the source is empty; check data.path and its files"
            )
        if bad > max_bad_share * read:
            raise DataError(
                f"{bad} of {read} {table} are refused ({bad / read:.1%}, allowed "
                f"{max_bad_share:.1%}): {told}. Examples: {examples}. "
                "Mend the source, or raise data.max_bad_share"
            )
        if not counts.kept[table]:
            raise DataError(f"none of {read} {table} is usable: {told}. Examples: {examples}")


def _summary(
    config: DataConfig,
    source: Source,
    counts: Counts,
    cleaner: InteractionCleaner,
    from_log: int,
    dim: int | None,
) -> dict[str, Any]:
    return {
        "source": config.source,
        "files": [{"name": p.name, "bytes": p.stat().st_size} for p in source.files()],
        "users": cleaner.users,
        "read": counts.read,
        "kept": counts.kept,
        "from_log": from_log,
        "quarantined": counts.quarantined,
        "repaired": counts.repaired,
        "unused_columns": counts.unused_columns,
        "has_times": cleaner.span is not None,
        "first_time": cleaner.span[0] if cleaner.span else None,
        "last_time": cleaner.span[1] if cleaner.span else None,
        "vector_dim": dim,
        **getattr(source, "notes", {}),
    }
