"""The exposure log: what was shown to whom (docs/operations.md). Its schema, its places, reading.

`<workdir>/exposures/date=YYYY-MM-DD/hour=HH/*.parquet`, hours in UTC; written by servers
(`tesserec.serving.exposure`), read by whoever wants to know what users could have chosen from.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from tesserec.data.compute import pc

HOUR_MS = 3_600_000
EXPOSURES = pa.schema(
    [
        pa.field("timestamp_ms", pa.int64(), nullable=False),  # milliseconds since 1970, UTC
        pa.field("user_id", pa.string(), nullable=False),  # empty: the request named none
        pa.field("release_id", pa.string(), nullable=False),
        pa.field("source", pa.string(), nullable=False),
        pa.field("item_ids", pa.list_(pa.string()), nullable=False),  # best first
        pa.field("share", pa.float32(), nullable=False),  # of the answers that was being logged
    ]
)


def exposures_folder(workdir: Path) -> Path:
    return workdir / "exposures"


def hour_folder(workdir: Path, timestamp_ms: int) -> Path:
    """Where the rows of this moment's hour lie."""
    moment = datetime.fromtimestamp(timestamp_ms / 1000, UTC)
    return exposures_folder(workdir) / f"date={moment:%Y-%m-%d}" / f"hour={moment:%H}"


def hour_folders(workdir: Path) -> list[Path]:
    """The hours that there are, oldest first."""
    return sorted(exposures_folder(workdir).glob("date=*/hour=*"))


def read_exposures(
    workdir: Path | str, since_ms: int | None = None, until_ms: int | None = None
) -> Iterator[pa.RecordBatch]:
    """Batches of rows (`EXPOSURES`) from `since_ms` on and before `until_ms`, hour by hour.

    Within an hour rows come file by file, so those of several servers aren't in the order of time.
    A file that is deleted meanwhile, because the log is bounded, is passed over.
    """
    workdir = Path(workdir)
    first = hour_folder(workdir, since_ms) if since_ms is not None else None
    last = hour_folder(workdir, until_ms) if until_ms is not None else None
    for folder in hour_folders(workdir):
        if (first is None or folder >= first) and (last is None or folder <= last):
            for path in sorted(folder.glob("*.parquet")):
                if path.name.startswith("."):  # being written
                    continue
                for batch in _read(path):
                    found = _between(batch, since_ms, until_ms)
                    if found.num_rows:
                        yield found


def _read(path: Path) -> Iterator[pa.RecordBatch]:
    try:
        file = pq.ParquetFile(path)
    except FileNotFoundError:
        return
    with file:
        yield from file.iter_batches(columns=EXPOSURES.names)


def _between(batch: pa.RecordBatch, since_ms: int | None, until_ms: int | None) -> pa.RecordBatch:
    times = batch.column("timestamp_ms")
    if since_ms is not None:
        batch = batch.filter(pc.greater_equal(times, since_ms))
        times = batch.column("timestamp_ms")
    if until_ms is not None:
        batch = batch.filter(pc.less(times, until_ms))
    return batch
