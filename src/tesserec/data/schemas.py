"""The data contract: what an interaction and an item are, as Arrow schemas."""

from __future__ import annotations

import pyarrow as pa

INTERACTIONS = pa.schema(
    [
        pa.field("user_id", pa.string(), nullable=False),
        pa.field("item_id", pa.string(), nullable=False),
        pa.field("timestamp", pa.int64()),  # seconds since 1970, UTC; null in all rows or in none
        pa.field("position", pa.int64(), nullable=False),  # order inside a user, from file order
        pa.field("event_type", pa.string(), nullable=False),
    ]
)

ITEMS = pa.schema(
    [
        pa.field("item_id", pa.string(), nullable=False),
        pa.field("title", pa.string()),
        pa.field("brand", pa.string()),
        pa.field("categories", pa.list_(pa.string())),  # one string a path, levels joined by " > "
        pa.field("price", pa.float64()),
        pa.field("description", pa.string()),
        pa.field("keywords", pa.string()),
        pa.field("image_caption", pa.string()),
        pa.field("available", pa.bool_()),  # null means true
        pa.field("listed_at", pa.int64()),  # seconds; null means at the first interaction
    ]
)

# One ordered sequence a user; the lists are aligned and sorted by (timestamp, position).
SEQUENCES = pa.schema(
    [
        pa.field("user_id", pa.string(), nullable=False),
        pa.field("item_ids", pa.list_(pa.string()), nullable=False),
        pa.field(
            "timestamps", pa.list_(pa.int64()), nullable=False
        ),  # position where there are no times
    ]
)

QUARANTINE = pa.schema(
    [
        pa.field("table", pa.string(), nullable=False),  # interactions | items
        pa.field("file", pa.string(), nullable=False),
        pa.field("row", pa.int64(), nullable=False),  # 0-based row or line in that file
        pa.field("reason", pa.string(), nullable=False),
        pa.field(
            "record", pa.string(), nullable=False
        ),  # the row as JSON, as far as it could be read
    ]
)
