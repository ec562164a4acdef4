"""The feature job: raw Parquet in, feature Parquet out, by the Beam runner of the run's YAML."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from apache_beam.options.pipeline_options import PipelineOptions

from tesserec.config import FeatureConfig, SplitConfig
from tesserec.data.schemas import INTERACTIONS, ITEMS
from tesserec.errors import DataError, TesserecError, UsageError
from tesserec.features import transforms

log = logging.getLogger(__name__)

TABLES = ("interactions", "sequences", "user_history", "item_profile", "item_stats")
ROWS_PER_BUCKET = 200_000  # a bucket is one worker's memory and one file
MIN_BUCKETS = 4
CUT_BINS = 65_536  # resolution of the time cut: a 65,536th of the data's span


@dataclass(frozen=True)
class Source:
    """What the Parquet footers of one raw table say; no row is read for it."""

    units: list[transforms.Unit]
    rows: int
    low: int = 0  # smallest and greatest event time
    high: int = 0
    has_times: bool = False


def run_job(raw: Path, out: Path, features: FeatureConfig, split: SplitConfig) -> dict[str, Any]:
    """Make all feature tables of a raw artefact's folder in the empty folder `out`.

    Files and their bytes depend on the inputs and the configuration alone. Returns what is also
    written to `summary.json` (see docs/features.md).

    Raises:
        DataError: no interactions, or times in some rows only, or the time split cannot cut.
        UsageError: a time split is asked of data without times, or an unknown runner.
    """
    events = inspect_events(raw / "interactions")
    items = Source(*_units(raw / "items"))
    options = _options(features)
    watermark = events.high + 1
    cut = _train_cut(events, split, options, out) if split.protocol == "time" else None
    cuts = [watermark] if cut is None else [cut, watermark]
    _run_main(events, items, out, features, cuts, options)
    summary = _summary(out, events, cut, watermark)
    (out / "summary.json").write_text(json.dumps(summary, indent=1))
    return summary


def inspect_events(folder: Path) -> Source:
    """Units of work and the span of times of a folder of interactions, by footers alone."""
    units, rows = _units(folder)
    if not rows:
        raise DataError(f"{folder} holds no interactions; the features need at least one")
    times, positions, nulls = [], [], 0
    metas = {path: pq.read_metadata(path) for path in {unit[0] for unit in units}}
    for path, group, _ in units:
        row_group, names = metas[path].row_group(group), metas[path].schema.names
        stats = row_group.column(names.index("timestamp")).statistics
        where = row_group.column(names.index("position")).statistics
        if stats is None or not stats.has_null_count or where is None or not where.has_min_max:
            raise DataError(f"{path} has no column statistics; write it with statistics")
        nulls += stats.null_count
        times += [stats.min, stats.max] if stats.has_min_max else []
        positions += [where.min, where.max]
    if 0 < nulls < rows:
        raise DataError(
            f"{nulls} of {rows} interactions in {folder} have no timestamp; "
            "give all of them one, or none"
        )
    span = positions if nulls else times
    return Source(units, rows, min(span), max(span), has_times=not nulls)


def _units(folder: Path) -> tuple[list[transforms.Unit], int]:
    units: list[transforms.Unit] = []
    first = 0
    for path in sorted(folder.glob("*.parquet")):
        meta = pq.read_metadata(path)
        for group in range(meta.num_row_groups):
            if meta.row_group(group).num_rows:
                units.append((str(path.resolve()), group, first))
            first += meta.row_group(group).num_rows
    return units, first


def _options(features: FeatureConfig) -> PipelineOptions:
    return PipelineOptions(flags=[], runner=features.runner, **features.runner_options)


def _run(pipeline: beam.Pipeline) -> None:
    state = pipeline.run().wait_until_finish()
    if state not in ("DONE", None):
        raise TesserecError(f"the Beam pipeline ended as {state}; see the runner's own log")


def _pipeline(options: PipelineOptions) -> beam.Pipeline:
    try:
        return beam.Pipeline(options=options)
    except (ValueError, ImportError, AttributeError) as error:
        name = options.get_all_options()["runner"]
        raise UsageError(f"features.runner is {name!r}; Beam cannot make it: {error}") from error


def _train_cut(events: Source, split: SplitConfig, options: PipelineOptions, out: Path) -> int:
    """The first bin edge with at least `train_share` of the events before it."""
    if not events.has_times:
        raise UsageError(
            "split.protocol is 'time', but the interactions have no timestamps; use leave_one_out"
        )
    bins = min(CUT_BINS, events.high + 1 - events.low)
    scratch = out / ".histogram"
    pipeline = _pipeline(options)
    shards = transforms.read(
        pipeline | "Units" >> beam.Create(events.units), INTERACTIONS
    ) | "Histogram" >> _Histogram(events.low, events.high, bins)
    _ = transforms.write(shards, scratch.name, str(out.resolve()), buckets=1)
    scratch.mkdir()
    _run(pipeline)
    (path,) = scratch.glob("*.parquet")
    counts = pq.read_table(path)["count"].to_numpy()
    path.unlink()
    scratch.rmdir()
    share = np.cumsum(counts) / counts.sum()
    edge = int(np.searchsorted(share, split.train_share)) + 1
    cut = int(np.ceil(np.linspace(events.low, events.high + 1, bins + 1)[edge]))
    if edge >= bins or cut > events.high:
        raise DataError(
            f"split.train_share {split.train_share} leaves no event after the cut: too many "
            "events share the last time; use a smaller share, or leave_one_out"
        )
    return cut


class _Histogram(beam.PTransform):
    """Tables of interactions -> one (0, table of counts)."""

    def __init__(self, low: int, high: int, bins: int) -> None:
        super().__init__()
        self.low, self.high, self.bins = low, high, bins

    def expand(self, input_or_inputs: Any) -> Any:
        counts = transforms.histogram(input_or_inputs, low=self.low, high=self.high, bins=self.bins)
        return counts | "AsShard" >> beam.Map(lambda a: (0, pa.table({"count": pa.array(a)})))


def _run_main(
    events: Source,
    items: Source,
    out: Path,
    features: FeatureConfig,
    cuts: Sequence[int],
    options: PipelineOptions,
) -> None:
    for name in TABLES:
        (out / name).mkdir()
    folder = str(out.resolve())
    buckets = max(MIN_BUCKETS, -(-events.rows // ROWS_PER_BUCKET))
    pipeline = _pipeline(options)
    rows = transforms.read(pipeline | "Events" >> beam.Create(events.units), INTERACTIONS)
    with_label = pipeline | "Items" >> beam.Create(items.units)
    catalogue = with_label | "ReadItems" >> _ReadItems()
    cleaned = transforms.clean(rows, buckets=buckets)
    stats, profile = transforms.item_features(
        rows,
        catalogue,
        schemas=(
            pa.schema([INTERACTIONS.field(name) for name in transforms.EVENT_COLUMNS]),
            ITEMS.append(pa.field("row", pa.int64())),
        ),
        watermark=cuts[-1],
        windows=features.windows_days,
        has_times=events.has_times,
        buckets=buckets,
    )
    history = transforms.histories(
        cleaned, cuts=cuts, length=features.history_length, seen_limit=features.seen_limit
    )
    shards = (cleaned, transforms.sequences(cleaned), history, profile, stats)
    for name, collection in zip(TABLES, shards, strict=True):
        _ = transforms.write(collection, name, folder, buckets=buckets)
    _run(pipeline)


class _ReadItems(beam.PTransform):
    def expand(self, input_or_inputs: Any) -> Any:
        return transforms.read(input_or_inputs, ITEMS, numbered=True)


def _summary(out: Path, events: Source, cut: int | None, watermark: int) -> dict[str, Any]:
    """Counts of what was written, out of the Parquet footers."""
    rows: dict[str, int] = {}
    counts: dict[str, int] = {}
    for name in TABLES:
        rows[name] = 0
        for path in sorted((out / name).glob("*.parquet")):
            meta = pq.read_metadata(path)
            rows[name] += meta.num_rows
            for key, value in (meta.metadata or {}).items():
                if key.startswith(b"tesserec."):
                    counts[key[9:].decode()] = counts.get(key[9:].decode(), 0) + int(value)
    if counts.get("items_unknown"):
        log.warning("%d item ids of interactions are not among the items", counts["items_unknown"])
    return {
        "users": rows["sequences"],
        "items": rows["item_profile"],
        "interactions": rows["interactions"],
        "watermark": watermark,
        "cuts": {"train": cut, "watermark": watermark},
        "has_times": events.has_times,
        **dict(sorted(counts.items())),
        "rows": rows,
    }
