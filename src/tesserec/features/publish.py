"""Putting feature tables into the offline store: changed rows only, whole files only.

A publication is one Parquet file a view and cut, `<features key>-<cut>.parquet`, which appears by
a rename; it holds the rows that differ from what the store last said of that user or item at or
before the cut, stamped with the time of publication. Old files are never touched.
"""

from __future__ import annotations

import logging
import os
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import pyarrow.parquet as pq

from tesserec.artifacts import Artifact, fsync_folder

log = logging.getLogger(__name__)

VIEWS = {"user_history": "user_id", "item_profile": "item_id", "item_stats": "item_id"}
OFFLINE = "offline"


def publish(features: Artifact, folder: Path, *, now: datetime | None = None) -> dict[str, int]:
    """Publish all views of a `features` artefact below folder/offline; calling again is free.

    Args:
        folder: the feature store's folder.
        now: the `created_timestamp` of the rows; the clock's, if not given.

    Returns: rows published for each view (0 where the files were there already).
    """
    now = now or datetime.now(UTC)
    summary = features.read_json("summary.json")
    watermark, train = summary["cuts"]["watermark"], summary["cuts"]["train"]
    rows = {}
    for view, key in VIEWS.items():
        cuts = [watermark] if train is None or view != "user_history" else [train, watermark]
        target = folder / OFFLINE / view
        target.mkdir(parents=True, exist_ok=True)
        rows[view] = 0
        for cut in cuts:
            final = target / f"{features.key}-{cut}.parquet"
            if not final.exists():
                rows[view] += _publish(features.file(view), final, key, cut, now)
    log.info("published to %s: %s", folder / OFFLINE, rows)
    return rows


def _publish(source: Path, final: Path, key: str, cut: int, now: datetime) -> int:
    """Write the rows of `cut` that are news. Returns how many.

    A row that corrects one of the same cut gets a stamp a microsecond later: online stores that
    compare event times (Redis) would otherwise drop it.
    """
    scratch = final.parents[1] / ".tmp" / final.name  # a view's folder holds whole files only
    scratch.parent.mkdir(exist_ok=True)
    columns = _columns(source, key)
    new = ", ".join(f'n."{name}"' for name in columns)
    join, stamp, changed = "", "n.event_timestamp", "TRUE"
    if any(final.parent.glob("*.parquet")):
        join = f"LEFT JOIN ({_latest(final.parent, key, cut)}) o ON n.{key} = o.{key}"
        stamp = (
            "CASE WHEN o.event_timestamp >= n.event_timestamp "
            "THEN o.event_timestamp + INTERVAL 1 MICROSECOND ELSE n.event_timestamp END"
        )
        if columns == _columns(final.parent, key):  # otherwise every row is news
            old = ", ".join(f'o."{name}"' for name in columns)
            changed = f"(o.{key} IS NULL OR ({new}) IS DISTINCT FROM ({old}))"
    query = (
        f"SELECT n.{key}, {new}, {stamp} AS event_timestamp, "
        f"TIMESTAMPTZ '{now.isoformat()}' AS created_timestamp "
        f"FROM {_files(source)} n {join} "
        f"WHERE epoch(n.event_timestamp) = {cut} AND {changed} ORDER BY n.{key}"
    )
    with duckdb.connect() as db:
        db.execute("SET TimeZone = 'UTC'")
        db.execute(f"COPY ({query}) TO {_text(scratch)} (FORMAT parquet, COMPRESSION zstd)")
    with scratch.open("rb") as handle:
        os.fsync(handle.fileno())
    rows = pq.read_metadata(scratch).num_rows
    os.replace(scratch, final)
    fsync_folder(final.parent)
    return rows


def _latest(folder: Path, key: str, cut: int) -> str:
    """What the store says of each key up to `cut`, corrections of that very cut included."""
    return (
        f"SELECT * FROM {_files(folder)} WHERE epoch(event_timestamp) < {cut + 1} "
        f"QUALIFY row_number() OVER (PARTITION BY {key} "
        "ORDER BY event_timestamp DESC, created_timestamp DESC) = 1"
    )


def _columns(folder: Path, key: str) -> list[str]:
    """The feature columns of the last file of a folder."""
    names = pq.read_schema(sorted(folder.glob("*.parquet"))[-1]).names
    return [name for name in names if name not in (key, "event_timestamp", "created_timestamp")]


def _files(folder: Path) -> str:
    return f"read_parquet({_text(folder / '*.parquet')}, union_by_name = true)"


def _text(path: Path) -> str:
    return "'" + str(path).replace("'", "''") + "'"
