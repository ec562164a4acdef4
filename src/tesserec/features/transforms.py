"""The features as functions of PCollections; any Beam runner takes them.

Per-element Python is what a Beam job pays for, so the elements are Arrow tables: a row group, or
one bucket of whole users or items. Rows travel once to their user's bucket and once to their
item's; nothing is ever gathered in one worker, and a bucket's shard has a fixed name and contents,
so a retried bundle writes the same file again.
"""

from __future__ import annotations

import posixpath
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from apache_beam.io.filesystem import CompressionTypes
from apache_beam.io.filesystems import FileSystems
from apache_beam.pvalue import PValue, TaggedOutput

from tesserec.features import tables
from tesserec.features.schemas import USER_HISTORY

EVENT_COLUMNS = ("item_id", "user_id", "timestamp", "position")
Unit = tuple[str, int, int]  # file, row group, number of its first row in the whole table
Bucket = tuple[int, pa.Table]  # a bucket's number and its rows


class ReadRowGroup(beam.DoFn):
    """(file, row group, first row) -> a table in `schema`, with column `row` if asked."""

    def __init__(self, schema: pa.Schema, numbered: bool = False) -> None:
        self.schema, self.numbered = schema, numbered

    def process(self, element: Unit) -> Iterator[pa.Table]:
        path, group, first = element
        with FileSystems.open(path, compression_type=CompressionTypes.UNCOMPRESSED) as handle:
            table = pq.ParquetFile(handle).read_row_group(group, columns=self.schema.names)
        table = table.select(self.schema.names).cast(self.schema)
        if self.numbered:
            table = table.append_column("row", pa.array(np.arange(first, first + len(table))))
        yield table


class Scatter(beam.DoFn):
    """A table -> (bucket, Arrow IPC bytes), one for each bucket of the key column."""

    def __init__(self, key: str, buckets: int, columns: Sequence[str] | None = None) -> None:
        self.key, self.buckets, self.columns = key, buckets, columns

    def process(self, element: pa.Table) -> Iterator[tuple[int, bytes]]:
        if self.columns is not None:
            element = element.select(list(self.columns))
        for number, part in tables.split(element, self.key, self.buckets):
            yield number, to_bytes(part)


class Clean(beam.DoFn):
    """(bucket, pieces) -> (bucket, cleaned interactions); counts go into the shard's footer."""

    def process(self, element: tuple[int, Iterable[bytes]]) -> Iterator[Bucket]:
        table, repeated = tables.clean(of_bytes(element[1]))
        yield element[0], counted(table, rows_repeated=repeated)


class Histories(beam.DoFn):
    """(bucket, cleaned interactions) -> (bucket, USER_HISTORY of each cut)."""

    def __init__(self, cuts: Sequence[int], length: int, seen_limit: int) -> None:
        self.cuts, self.length, self.seen_limit = cuts, length, seen_limit

    def process(self, element: Bucket) -> Iterator[Bucket]:
        number, events = element
        parts, over = [USER_HISTORY.empty_table()], 0
        for cut in self.cuts:  # the last is the watermark: its count is the one that is told
            part, over = tables.histories(
                events, cut, length=self.length, seen_limit=self.seen_limit
            )
            parts.append(part)
        yield number, counted(pa.concat_tables(parts), users_over_seen_limit=over)


class ItemFeatures(beam.DoFn):
    """(bucket, {events, items}) -> outputs `stats` and `profile`, each (bucket, table)."""

    def __init__(
        self,
        items: pa.Schema,
        events: pa.Schema,
        watermark: int,
        windows: Sequence[int],
        timed: bool,
    ) -> None:
        self.items, self.events = items, events
        self.watermark, self.windows, self.timed = watermark, windows, timed

    def process(self, element: tuple[int, Mapping[str, Iterable[bytes]]]) -> Iterator[Any]:
        number, pieces = element
        events = of_bytes(pieces["events"], self.events)
        items = of_bytes(pieces["items"], self.items)
        stats = tables.stats(
            events,
            items["item_id"].combine_chunks(),
            watermark=self.watermark,
            windows=self.windows,
            has_times=self.timed,
        )
        profile, repeated = tables.profile(items, stats, watermark=self.watermark)
        unknown = len(stats) - len(profile)
        yield TaggedOutput("stats", (number, counted(stats, items_unknown=unknown)))
        yield TaggedOutput("profile", (number, counted(profile, items_repeated=repeated)))


class WriteShard(beam.DoFn):
    """(bucket, table) -> the path of its Parquet file; a second writer replaces it by the same."""

    def __init__(self, folder: str, buckets: int) -> None:
        self.folder, self.buckets = folder, buckets

    def process(self, element: Bucket) -> Iterator[str]:
        number, table = element
        name = f"part-{number:05d}-of-{self.buckets:05d}.parquet"
        final = posixpath.join(self.folder, name)
        scratch = posixpath.join(self.folder, f".{name}.{uuid.uuid4().hex}")
        with FileSystems.create(scratch, compression_type=CompressionTypes.UNCOMPRESSED) as out:
            pq.write_table(table, out, compression="zstd", row_group_size=65_536)
        FileSystems.rename([scratch], [final])
        yield final


def read(units: PValue, schema: pa.Schema, *, numbered: bool = False) -> PValue:
    """Units of work -> Arrow tables, one a row group; reading is spread over the workers."""
    return (
        units | "Spread" >> beam.Reshuffle() | "Read" >> beam.ParDo(ReadRowGroup(schema, numbered))
    )


def clean(events: PValue, *, buckets: int) -> PValue:
    """Tables of interactions -> (bucket, cleaned interactions), whole users in order."""
    return (
        events
        | "ByUser" >> beam.ParDo(Scatter("user_id", buckets))
        | "GroupUsers" >> beam.GroupByKey()
        | "Clean" >> beam.ParDo(Clean())
    )


def sequences(cleaned: PValue) -> PValue:
    """Cleaned buckets -> (bucket, SEQUENCES)."""
    return cleaned | "Sequences" >> beam.MapTuple(lambda n, table: (n, tables.sequences(table)))


def histories(cleaned: PValue, *, cuts: Sequence[int], length: int, seen_limit: int) -> PValue:
    """Cleaned buckets -> (bucket, USER_HISTORY), a row a user and cut; the last cut is W."""
    return cleaned | "Histories" >> beam.ParDo(Histories(tuple(cuts), length, seen_limit))


def item_features(
    events: PValue,
    items: PValue,
    *,
    schemas: tuple[pa.Schema, pa.Schema],
    watermark: int,
    windows: Sequence[int],
    has_times: bool,
    buckets: int,
) -> tuple[PValue, PValue]:
    """Tables of interactions and of numbered items -> (statistics, profile), each by bucket.

    One shuffle serves both: the profile's `listed_at` needs the statistics' `first_seen`.
    `schemas` are those of the events (EVENT_COLUMNS) and the items, for buckets that lack one.
    """
    grouped = {
        "events": events | "ByItem" >> beam.ParDo(Scatter("item_id", buckets, EVENT_COLUMNS)),
        "items": items | "ItemsById" >> beam.ParDo(Scatter("item_id", buckets)),
    } | "GroupItems" >> beam.CoGroupByKey()
    worker = ItemFeatures(schemas[1], schemas[0], watermark, tuple(windows), has_times)
    out = grouped | "ItemFeatures" >> beam.ParDo(worker).with_outputs("stats", "profile")
    return out.stats, out.profile


def write(shards: PValue, name: str, folder: str, *, buckets: int) -> PValue:
    """(bucket, table) -> Parquet files below folder/name."""
    target = posixpath.join(folder, name)
    return shards | f"Write {name}" >> beam.ParDo(WriteShard(target, buckets))


def histogram(events: PValue, *, low: int, high: int, bins: int) -> PValue:
    """One int64 [bins] array: events in equal bins of time from `low` to `high` (inclusive)."""
    edges = np.linspace(low, high + 1, bins + 1)
    return (
        events
        | "Bin" >> beam.Map(lambda t: np.histogram(tables.event_times(t), bins=edges)[0])
        | "AddUp" >> beam.CombineGlobally(_add_arrays)
    )


def _add_arrays(arrays: Iterable[Any]) -> Any:
    total: Any = 0
    for array in arrays:
        total = total + array
    return total


def counted(table: pa.Table, **counts: int) -> pa.Table:
    """The table with counts in its metadata: they reach the driver through the Parquet footer."""
    return table.replace_schema_metadata({f"tesserec.{k}": str(v) for k, v in counts.items()})


def to_bytes(table: pa.Table) -> bytes:
    """A table as a compressed Arrow IPC stream; a shuffle pays for bytes."""
    sink = pa.BufferOutputStream()
    options = pa.ipc.IpcWriteOptions(compression="lz4")
    with pa.ipc.new_stream(sink, table.schema, options=options) as writer:
        writer.write_table(table)
    return sink.getvalue().to_pybytes()


def of_bytes(pieces: Iterable[bytes], schema: pa.Schema | None = None) -> pa.Table:
    """Arrow IPC streams as one table; `schema` is for the case of no piece."""
    parts = [pa.ipc.open_stream(piece).read_all() for piece in pieces]
    if not parts and schema is not None:
        return schema.empty_table()
    return pa.concat_tables(parts).combine_chunks()
