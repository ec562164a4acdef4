"""Arrow schemas of the feature tables; what Beam writes and Feast and the other rooms read."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from tesserec.data.schemas import ITEMS

EVENT_TIMESTAMP = pa.field("event_timestamp", pa.timestamp("us", tz="UTC"), nullable=False)
CREATED_TIMESTAMP = pa.field("created_timestamp", pa.timestamp("us", tz="UTC"), nullable=False)

# One row a user and cut: what was known of the user before `event_timestamp`, the cut.
USER_HISTORY = pa.schema(
    [
        pa.field("user_id", pa.string(), nullable=False),
        pa.field("item_ids", pa.list_(pa.string()), nullable=False),  # oldest first
        pa.field("timestamps", pa.list_(pa.int64()), nullable=False),  # seconds, aligned
        pa.field("seen_items", pa.list_(pa.string()), nullable=False),  # distinct, latest first
        EVENT_TIMESTAMP,
    ]
)

# ITEMS with `row`, the 0-based place in the raw items: the row order of the release.
ITEM_PROFILE = pa.schema(
    [
        ITEMS.field("item_id"),
        pa.field("row", pa.int64(), nullable=False),
        *(field for field in ITEMS if field.name != "item_id"),
        EVENT_TIMESTAMP,
    ]
)


def item_stats(windows: Sequence[int]) -> pa.Schema:
    """Schema of the item statistics for windows of that many days.

    `count_7d`: events in the 7 days before the watermark; `users_7d`: distinct users of them;
    `trend_7d`: (now - before) / (now + before) against the 7 days before those, -1 to 1, 0 where
    both are empty. All null where there are no times.
    """
    fields = [pa.field("item_id", pa.string(), nullable=False)]
    for days in windows:
        fields += [
            pa.field(f"count_{days}d", pa.int64()),
            pa.field(f"users_{days}d", pa.int64()),
            pa.field(f"trend_{days}d", pa.float64()),
        ]
    fields += [
        pa.field("count_all", pa.int64(), nullable=False),
        pa.field("users_all", pa.int64(), nullable=False),
        pa.field("first_seen", pa.int64()),  # seconds; null: never, or no times
        pa.field("last_seen", pa.int64()),
        EVENT_TIMESTAMP,
    ]
    return pa.schema(fields)
