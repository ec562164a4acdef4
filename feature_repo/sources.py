"""Where features come from: the published Parquet of the Beam jobs, and pushed events.

TESSEREC_OFFLINE is the absolute folder of the offline store (DuckDB takes relative paths from the
current folder); the pipeline sets it to <workdir>/feature_store/offline.
"""

import os

from feast import FileSource, PushSource
from feast.data_format import ParquetFormat

OFFLINE = os.environ.get("TESSEREC_OFFLINE", os.path.abspath("offline"))


def published(view: str) -> FileSource:
    """The folder of Parquet files of one view."""
    return FileSource(
        name=f"{view}_source",
        path=os.path.join(OFFLINE, view),
        file_format=ParquetFormat(),
        timestamp_field="event_timestamp",
        created_timestamp_column="created_timestamp",
    )


user_history_source = published("user_history")
item_profile_source = published("item_profile")
item_stats_source = published("item_stats")
# Feast wants a batch source behind a push source; nothing is published there, since the raw log
# of events is the record.
user_recent_source = PushSource(
    name="user_recent_source", batch_source=published("user_recent_log")
)
