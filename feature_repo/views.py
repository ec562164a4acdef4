"""The feature views. Each has a reader; one without is deleted.

user_history: requests (with user_recent), and the proof of the training cut.
user_recent: requests; written by `tesserec event`.
item_profile: the encoder and the release's items.  item_stats: popularity, fallback lists, slices.
"""

from entities import item, user
from feast import FeatureView, Field
from feast.types import Array, Bool, Float64, Int64, String
from sources import (
    item_profile_source,
    item_stats_source,
    user_history_source,
    user_recent_source,
)

user_history = FeatureView(
    name="user_history",
    entities=[user],
    schema=[
        Field(name="item_ids", dtype=Array(String)),  # the last events, oldest first
        Field(name="timestamps", dtype=Array(Int64)),  # seconds, aligned
        Field(name="seen_items", dtype=Array(String)),  # distinct, latest first, up to 1,000
    ],
    source=user_history_source,
    online=True,
)

user_recent = FeatureView(
    name="user_recent",
    entities=[user],
    schema=[
        Field(name="item_ids", dtype=Array(String)),  # oldest first
        Field(name="timestamps", dtype=Array(Int64)),
        Field(name="version", dtype=Int64),  # microseconds; grows with each write of the row
    ],
    source=user_recent_source,
    online=True,
)

item_profile = FeatureView(
    name="item_profile",
    entities=[item],
    schema=[
        Field(name="row", dtype=Int64),
        Field(name="title", dtype=String),
        Field(name="brand", dtype=String),
        Field(name="categories", dtype=Array(String)),
        Field(name="price", dtype=Float64),
        Field(name="description", dtype=String),
        Field(name="keywords", dtype=String),
        Field(name="image_caption", dtype=String),
        Field(name="available", dtype=Bool),
        Field(name="listed_at", dtype=Int64),
    ],
    source=item_profile_source,
    online=False,
)

item_stats = FeatureView(
    name="item_stats",
    entities=[item],
    schema=[
        *(
            Field(name=f"{name}_{days}d", dtype=dtype)
            for days in (1, 7, 30)
            for name, dtype in (("count", Int64), ("users", Int64), ("trend", Float64))
        ),
        Field(name="count_all", dtype=Int64),
        Field(name="users_all", dtype=Int64),
        Field(name="first_seen", dtype=Int64),
        Field(name="last_seen", dtype=Int64),
    ],
    source=item_stats_source,
    online=False,
)
