"""The point-in-time proof: what Feast says of each user at a cut is what the sequences say.

If the join ever let an event of the cut or after it into a training history (a late row, a wrong
stamp, a store that is not point-in-time correct), the two would differ, and the build stops.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from feast import FeatureStore

from tesserec.errors import DataError

log = logging.getLogger(__name__)

BLOCK = 50_000  # users asked for in one join
MAX_USERS = 200_000  # beyond, whole shards (by hash of the user) up to this many


def prove(store: FeatureStore, sequences: Path, cuts: Sequence[int], *, length: int) -> int:
    """Compare the store with the sequences at each cut. Returns the users compared.

    Args:
        sequences: folder of SEQUENCES shards.
        cuts: seconds; events with time < cut belong to the history.
        length: of the histories.

    Raises:
        DataError: the join lost or doubled a user, or a history differs; three are named.
    """
    users = 0
    for path in sorted(sequences.glob("*.parquet")):
        if users >= MAX_USERS:
            log.info("proved %d users; the other shards are not compared", users)
            break
        for batch in pq.ParquetFile(path).iter_batches(BLOCK):
            for cut in cuts:
                _compare(store, batch, cut, length)
            users += len(batch)
    return users


def histories_at(
    store: FeatureStore, user_ids: pa.Array, cut: int, *, as_known: bool = False
) -> pa.Table:
    """The histories of some users as of a cut: user_id, item_ids, timestamps, in the given order.

    Args:
        cut: seconds; corrections of that very cut are included.
        as_known: leave out rows published after the cut (`created_timestamp`), as a training at
            that time would have seen it; otherwise what the store believes of that time now.

    Raises:
        DataError: the join did not return one row a user.
    """
    import pandas as pd

    moment = datetime.fromtimestamp(cut, UTC) + timedelta(microseconds=999_999)
    entities = pd.DataFrame(
        {
            "user_id": user_ids.to_pandas(),
            "row_id": np.arange(len(user_ids)),
            "event_timestamp": pd.Series([moment] * len(user_ids), dtype="datetime64[us, UTC]"),
        }
    )
    job = store.get_historical_features(
        entity_df=entities,
        features=["user_history:item_ids", "user_history:timestamps"],
        filter_by_created_timestamp=as_known,
    )
    with warnings.catch_warnings():  # of ibis, about its own use of DuckDB
        warnings.simplefilter("ignore", DeprecationWarning)
        table = job.to_arrow().sort_by("row_id")
    if table["row_id"].to_pylist() != list(range(len(user_ids))):
        raise DataError(
            f"the point-in-time join returned {len(table)} rows for {len(user_ids)} users at cut "
            f"{cut}; the offline store drops or doubles rows (use DuckDB)"
        )
    return table.select(["user_id", "item_ids", "timestamps"])


def _compare(store: FeatureStore, batch: pa.RecordBatch, cut: int, length: int) -> None:
    found = histories_at(store, batch.column("user_id"), cut).to_pydict()
    items, times = batch.column("item_ids").to_pylist(), batch.column("timestamps")
    bad = []
    for i, user in enumerate(batch.column("user_id").to_pylist()):
        when = times[i].as_py()
        end = int(np.searchsorted(when, cut))  # events before the cut
        begin = max(0, end - length)
        expected = items[i][begin:end], when[begin:end]
        if (found["item_ids"][i] or [], found["timestamps"][i] or []) != expected:
            bad.append(f"{user}: {found['item_ids'][i]} instead of {expected[0]}")
    if bad:
        raise DataError(
            f"at cut {cut} the feature store differs from the sequences for {len(bad)} users of "
            f"{len(batch)}: {'; '.join(bad[:3])}. Does the workdir hold features of other data? "
            "Use another workdir, or delete its feature_store folder"
        )
