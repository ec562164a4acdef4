"""The arithmetic of the features on one bucket of rows: Arrow tables in, Arrow tables out.

A bucket holds whole users (or whole items), a few hundred thousand rows, so everything here is
vectorised and nothing loops over rows in Python. Beam knows nothing of it and it knows no Beam.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa

from tesserec.data.compute import pc
from tesserec.data.schemas import INTERACTIONS, SEQUENCES
from tesserec.features.schemas import EVENT_TIMESTAMP, ITEM_PROFILE, USER_HISTORY, item_stats

DAY = 86_400


def ranks(column: pa.ChunkedArray | pa.Array) -> tuple[np.ndarray, pa.Array]:
    """The place of each value among the sorted distinct values, int64 [n], and those values."""
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
    encoded = column.dictionary_encode()
    order = pc.sort_indices(encoded.dictionary).to_numpy()
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(len(order))
    return rank[encoded.indices.to_numpy()], encoded.dictionary.take(pa.array(order))


def buckets_of(ids: pa.ChunkedArray | pa.Array, buckets: int) -> np.ndarray:
    """The bucket of each id, int64 [n]: CRC-32 modulo `buckets`, equal on every machine."""
    if isinstance(ids, pa.ChunkedArray):
        ids = ids.combine_chunks()
    encoded = ids.dictionary_encode()
    hashes = [zlib.crc32(value.encode()) % buckets for value in encoded.dictionary.to_pylist()]
    return np.array(hashes, np.int64)[encoded.indices.to_numpy()]


def split(table: pa.Table, column: str, buckets: int) -> Iterator[tuple[int, pa.Table]]:
    """Cut a table into one table a bucket of `column`; empty buckets are left out."""
    bucket = buckets_of(table[column], buckets)
    order = np.argsort(bucket, kind="stable")
    edges = np.searchsorted(bucket[order], np.arange(buckets + 1))
    table = table.take(pa.array(order))
    for number in range(buckets):
        if edges[number] < edges[number + 1]:
            yield number, table.slice(edges[number], edges[number + 1] - edges[number])


def event_times(table: pa.Table) -> np.ndarray:
    """Seconds of each event, int64 [n]; the position where there are no times."""
    return pc.coalesce(table["timestamp"], table["position"]).to_numpy()


def clean(table: pa.Table) -> tuple[pa.Table, int]:
    """Order a bucket of interactions by user, time and position and number each user's anew.

    Rows equal in all columns, position included, are one event delivered twice and become one;
    a repeat of an item at another position stays. Returns the table and the rows left out.
    """
    user, _ = ranks(table["user_id"])
    item, _ = ranks(table["item_id"])
    kind, _ = ranks(table["event_type"])
    time, position = event_times(table), table["position"].to_numpy()
    order = np.lexsort((kind, item, position, time, user))
    keys = np.stack([a[order] for a in (user, time, position, item, kind)])
    keep = np.ones(len(order), bool)
    keep[1:] = (keys[:, 1:] != keys[:, :-1]).any(axis=0)
    order, user = order[keep], keys[0][keep]
    table = table.take(pa.array(order))
    begin = _edges(user)[:-1]
    position = np.arange(len(user)) - np.repeat(begin, np.diff([*begin, len(user)]))
    columns = {name: table[name] for name in INTERACTIONS.names} | {"position": pa.array(position)}
    return pa.table(columns, schema=INTERACTIONS), int((~keep).sum())


def sequences(events: pa.Table) -> pa.Table:
    """One ordered sequence a user (SEQUENCES) of a cleaned bucket."""
    user, users = ranks(events["user_id"])
    edges = pa.array(_edges(user), pa.int32())
    items = events["item_id"].combine_chunks()
    lists = [
        users,
        pa.ListArray.from_arrays(edges, items),
        pa.ListArray.from_arrays(edges, pa.array(event_times(events))),
    ]
    return pa.table(lists, schema=SEQUENCES)


def histories(events: pa.Table, cut: int, *, length: int, seen_limit: int) -> tuple[pa.Table, int]:
    """What was known of each user before `cut` (USER_HISTORY), and who has more seen items.

    Args:
        events: a cleaned bucket.
        cut: seconds; events with time < cut count. A user without such an event has no row.
        length: the last so many events are kept.
        seen_limit: the last so many distinct items are kept; the second result counts the users
            with more.
    """
    before = event_times(events) < cut
    events = events.filter(pa.array(before))
    user, users = ranks(events["user_id"])
    edges = _edges(user)
    counts = np.diff(edges)
    kept = np.minimum(counts, length)
    rows = pa.array(_spans(edges[1:] - kept, kept))
    offsets = pa.array(np.concatenate([[0], np.cumsum(kept)]), pa.int32())
    seen, over = _seen(events, user, len(users), seen_limit)
    table = pa.table(
        [
            users,
            pa.ListArray.from_arrays(offsets, events["item_id"].take(rows).combine_chunks()),
            pa.ListArray.from_arrays(offsets, pa.array(event_times(events)[rows.to_numpy()])),
            seen,
            _stamps(cut, len(users)),
        ],
        schema=USER_HISTORY,
    )
    return table, over


def _seen(events: pa.Table, user: np.ndarray, users: int, limit: int) -> tuple[pa.Array, int]:
    """Distinct items of each user, the latest first, at most `limit`; users with more."""
    item, items = ranks(events["item_id"])
    backwards = (user * max(len(items), 1) + item)[::-1]
    _, first = np.unique(backwards, return_index=True)  # first from the end: the last event
    rows = np.sort(len(user) - 1 - first)[::-1]  # latest row first
    rows = rows[np.argsort(user[rows], kind="stable")]
    edges = np.searchsorted(user[rows], np.arange(users + 1))
    counts = np.diff(edges)
    kept = np.minimum(counts, limit)
    rows = rows[_spans(edges[:-1], kept)]
    offsets = pa.array(np.concatenate([[0], np.cumsum(kept)]), pa.int32())
    names = events["item_id"].take(pa.array(rows)).combine_chunks()
    return pa.ListArray.from_arrays(offsets, names), int((counts > limit).sum())


def stats(
    events: pa.Table, item_ids: pa.Array, *, watermark: int, windows: Sequence[int], has_times: bool
) -> pa.Table:
    """Counts, users and trend of each item of a bucket (schemas.item_stats), sorted by id.

    Args:
        events: all interactions with these items: item_id, user_id, timestamp, position.
        item_ids: items that get a row even without an interaction.
    """
    known = pc.unique(pa.concat_arrays([events["item_id"].combine_chunks(), item_ids]))
    names = known.take(pc.sort_indices(known))
    item = pc.index_in(events["item_id"], names).to_numpy().astype(np.int64)
    user, users = ranks(events["user_id"])
    time, n = event_times(events), len(names)

    def count(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        pairs = np.unique(item[mask] * max(len(users), 1) + user[mask]) // max(len(users), 1)
        return np.bincount(item[mask], minlength=n), np.bincount(pairs, minlength=n)

    columns: list[pa.Array] = [names]
    for days in windows if has_times else ():
        now, people = count(time >= watermark - days * DAY)
        span = (time >= watermark - 2 * days * DAY) & (time < watermark - days * DAY)
        before, _ = count(span)
        trend = (now - before) / np.maximum(now + before, 1)
        columns += [pa.array(now), pa.array(people), pa.array(trend)]
    schema = item_stats(windows)
    if not has_times:
        columns += [pa.nulls(n, field.type) for field in list(schema)[1 : 1 + 3 * len(windows)]]
    total, people = count(np.ones(len(item), bool))
    columns += [pa.array(total), pa.array(people)]
    first, last = np.full(n, np.iinfo(np.int64).max), np.full(n, -1)
    np.minimum.at(first, item, time)
    np.maximum.at(last, item, time)
    absent = (total == 0) | (not has_times)
    columns += [pa.array(first, mask=absent), pa.array(last, mask=absent)]
    return pa.table([*columns, _stamps(watermark, n)], schema=schema)


def profile(items: pa.Table, first_seen: pa.Table, *, watermark: int) -> tuple[pa.Table, int]:
    """The items of a bucket as ITEM_PROFILE, in row order; and how many repeated ids were left.

    Args:
        items: ITEMS with `row`. Of rows with one id the first in `row` order stays.
        first_seen: item_id, first_seen: fills `listed_at` where that is null.
    """
    items = items.take(pc.sort_indices(items["row"]))
    _, first = np.unique(ranks(items["item_id"])[0], return_index=True)
    repeated = len(items) - len(first)
    items = items.take(pa.array(np.sort(first)))
    place = pc.index_in(items["item_id"], first_seen["item_id"].combine_chunks())
    listed = pc.coalesce(items["listed_at"], first_seen["first_seen"].take(place))
    columns = {name: items[name] for name in items.column_names}
    columns["listed_at"] = listed
    columns["available"] = pc.fill_null(items["available"], True)
    columns[EVENT_TIMESTAMP.name] = _stamps(watermark, len(items))
    return pa.table({n: columns[n] for n in ITEM_PROFILE.names}, schema=ITEM_PROFILE), repeated


def _edges(group: np.ndarray) -> np.ndarray:
    """Where runs of equal values begin, and the end, int64 [runs + 1]."""
    if not len(group):
        return np.zeros(1, np.int64)
    return np.concatenate([[0], np.flatnonzero(np.diff(group)) + 1, [len(group)]])


def _spans(begin: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """begin[0], begin[0]+1, ... (counts[0] of them), begin[1], ...: int64 [sum of counts]."""
    ends = np.cumsum(counts)
    within = np.arange(ends[-1] if len(ends) else 0) - np.repeat(ends - counts, counts)
    return np.repeat(begin, counts) + within


def _stamps(second: int, n: int) -> pa.Array:
    return pa.array(np.full(n, second * 1_000_000)).cast(EVENT_TIMESTAMP.type)
