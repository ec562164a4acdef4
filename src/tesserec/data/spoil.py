"""Dirty rows for the generated shop: what real exports do wrong, at known rates."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from tesserec.data.compute import pc

FUTURE = 4_102_444_800  # 2100-01-01


def spoil(
    interactions: pa.Table, items: pa.Table, share: float, rng: np.random.Generator
) -> tuple[pa.Table, pa.Table]:
    """Spoil about `share` of the interactions in seven ways, and repeat as many of the items.

    No user id, no item id, an unknown item, no time, a time before 1970, a time in the future
    (refused), white space around the item id (repaired); items: an id that occurs twice (refused).
    """
    way = rng.integers(0, 7, interactions.num_rows)
    way[rng.random(interactions.num_rows) >= share] = -1
    user, item, time = (interactions[name] for name in ("user_id", "item_id", "timestamp"))
    text, number = pa.scalar(None, pa.string()), pa.scalar(None, pa.int64())

    def where(kind: int) -> pa.Array:
        return pa.array(way == kind)

    user = pc.if_else(where(0), text, user)
    item = pc.if_else(where(1), text, item)
    item = pc.if_else(where(2), pc.binary_join_element_wise("gone", item, "-"), item)
    item = pc.if_else(where(3), pc.binary_join_element_wise("", item, "  "), item)
    time = pc.if_else(where(4), number, time)
    time = pc.if_else(where(5), pc.negate(time), time)
    time = pc.if_else(where(6), pa.scalar(FUTURE, pa.int64()), time)
    for name, column in (("user_id", user), ("item_id", item), ("timestamp", time)):
        at = interactions.schema.get_field_index(name)
        interactions = interactions.set_column(at, name, column)
    twice = rng.random(items.num_rows) < share
    return interactions, pa.concat_tables([items, items.filter(pa.array(twice))])
