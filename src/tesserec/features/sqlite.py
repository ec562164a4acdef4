"""Feast's SQLite online store, made safe for several writers.

Feast's own is last-write-wins: materializing an older snapshot replaces newer rows. Here a row is
replaced only by one of a later event time, or of the same event time and not an earlier creation,
which is what Feast's Redis store does; writers wait for each other instead of failing.
"""

from __future__ import annotations

import calendar
import os
import sqlite3
import threading
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, Literal

from feast import FeatureView, RepoConfig
from feast.infra.key_encoding_utils import serialize_entity_key
from feast.infra.online_stores.sqlite import (
    SqliteOnlineStore,
    SqliteOnlineStoreConfig,
    _table_id,
)
from feast.utils import to_naive_utc

from tesserec.features.store import GUARDED_SQLITE

BUSY_MS = 60_000  # how long a writer waits for the others


class GuardedSqliteOnlineStoreConfig(SqliteOnlineStoreConfig):
    """As Feast's SQLite store; Feast finds the class by its name beside the store's."""

    type: Literal["tesserec.features.sqlite.GuardedSqliteOnlineStore"] = GUARDED_SQLITE  # pyright: ignore
    busy_ms: int = BUSY_MS  # how long to wait for a lock


class GuardedSqliteOnlineStore(SqliteOnlineStore):
    """One connection a process and thread, in WAL mode, with a write that compares times."""

    def __init__(self) -> None:
        super().__init__()
        self._connections: dict[tuple[int, int], sqlite3.Connection] = {}

    def _get_conn(self, config: RepoConfig) -> sqlite3.Connection:
        key = (os.getpid(), threading.get_ident())  # SQLite connections don't survive a fork
        if key not in self._connections:
            online: Any = config.online_store
            conn = sqlite3.connect(
                self._get_db_path(config),
                timeout=online.busy_ms / 1000,
                detect_types=sqlite3.PARSE_DECLTYPES | sqlite3.PARSE_COLNAMES,
                isolation_level="IMMEDIATE",  # a deferred one fails when it turns into a writer
                check_same_thread=False,
            )
            conn.execute("PRAGMA journal_mode=WAL")
            conn.execute("PRAGMA synchronous=NORMAL")
            self._connections[key] = conn
        return self._connections[key]

    def online_write_batch(
        self,
        config: RepoConfig,
        table: FeatureView,
        data: Sequence[tuple[Any, dict[str, Any], datetime, datetime | None]],
        progress: Callable[[int], Any] | None,
    ) -> None:
        """Write rows; each entity's features appear together, and never over newer ones."""
        registry: Any = config.registry
        name = _table_id(config.project, table, registry.enable_online_feature_view_versioning)
        statement = (
            f'INSERT INTO "{name}" AS old (entity_key, feature_name, value, event_ts, created_ts) '
            "VALUES (?, ?, ?, ?, ?) ON CONFLICT (entity_key, feature_name) DO UPDATE "
            "SET (value, event_ts, created_ts) = "
            "(excluded.value, excluded.event_ts, excluded.created_ts) "
            "WHERE excluded.event_ts > old.event_ts OR (excluded.event_ts = old.event_ts "
            "AND COALESCE(excluded.created_ts, 0) >= COALESCE(old.created_ts, 0))"
        )
        rows = []
        for entity_key, values, event_time, created in data:
            key = serialize_entity_key(
                entity_key,
                entity_key_serialization_version=config.entity_key_serialization_version,
            )
            for feature, value in values.items():
                row = (key, feature, value.SerializeToString(), _second(event_time))
                rows.append((*row, None if created is None else _second(created)))
        with self._get_conn(config) as conn:
            conn.executemany(statement, rows)
        if progress:
            progress(len(data))


def _second(time: datetime) -> int:
    return calendar.timegm(to_naive_utc(time).timetuple())
