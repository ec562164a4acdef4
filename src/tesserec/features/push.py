"""A new event: one line in the raw log, and the user's `user_recent` row in the online store.

The log comes first and is the record: the next run reads it. The row is read, merged and written
under a lock of its user, so that no writer loses another's event.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import time as clock
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tesserec.errors import DataError, ServingError
from tesserec.features.state import read_state
from tesserec.features.store import HISTORY_LENGTH, merge, open_store
from tesserec.locks import exclusive

if TYPE_CHECKING:
    from feast import FeatureStore

log = logging.getLogger(__name__)

LOG = Path("events") / "log.jsonl"
STRIPES = 1024  # lock files; users share them by hash
REDIS_LOCK_S = 30  # a writer that dies holds its user for this long
ATTEMPTS = 5
FUTURE_S = 86_400
EPOCH = datetime.fromtimestamp(0, UTC)
_stores: dict[tuple[str, int], FeatureStore] = {}


def push_event(
    workdir: Path, user_id: str, item_id: str, time: int | None = None
) -> dict[str, Any]:
    """Record one event and make it visible to the user's next request.

    Args:
        time: seconds since 1970; now, if not given. An older event takes its place by time and
            never stands before a newer one.

    Raises:
        DataError: an empty id, or a time before 1970 or more than a day ahead.
        ServingError: the event is in the log, but the online store did not take it.
    """
    now = clock.time()
    time = int(now) if time is None else int(time)
    if not user_id or not item_id:
        raise DataError(f"an event needs a user and an item, not {user_id!r} and {item_id!r}")
    if not 0 <= time <= now + FUTURE_S:
        raise DataError(f"event time {time} is not between 1970 and tomorrow; give seconds, UTC")
    store = _store(workdir / "feature_store")
    append_log(workdir / LOG, user_id, item_id, time)
    try:
        _update(store, workdir / "feature_store", user_id, item_id, time)
    except ServingError:
        raise
    except Exception as error:  # Feast and its stores raise whatever their clients do
        raise ServingError(
            f"the event is in {workdir / LOG}, but the online store failed: {error}"
        ) from error
    return {"user_id": user_id, "item_id": item_id, "time": time, "pushed": True}


def append_log(path: Path, user_id: str, item_id: str, time: int) -> None:
    """Append one JSON line, flushed to the disk; a line torn by a crash is closed first."""
    path.parent.mkdir(parents=True, exist_ok=True)
    event = {"user_id": user_id, "item_id": item_id, "timestamp": time}
    line = json.dumps(event, ensure_ascii=False).encode() + b"\n"
    descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        size = os.fstat(descriptor).st_size
        if size and os.pread(descriptor, 1, size - 1) != b"\n":
            line = b"\n" + line
        os.write(descriptor, line)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _store(folder: Path) -> FeatureStore:
    key = (str(folder.resolve()), os.getpid())
    if key not in _stores:
        _stores[key] = open_store(folder)
    return _stores[key]


def _update(store: FeatureStore, folder: Path, user_id: str, item_id: str, time: int) -> None:
    length = read_state(folder).get("history_length", HISTORY_LENGTH)
    for _ in range(ATTEMPTS):
        with user_lock(store, folder, user_id) as held:
            _merge_and_write(store, user_id, item_id, time, length)
        if held():
            return
        log.warning("the lock of user %s ran out during a write; merging again", user_id)
    raise ServingError(f"the lock of user {user_id} was lost {ATTEMPTS} times; is the store slow?")


def _merge_and_write(
    store: FeatureStore, user_id: str, item_id: str, time: int, length: int
) -> None:
    import pandas as pd

    names = ["item_ids", "timestamps", "version"]
    row = store.get_online_features(
        features=[f"user_recent:{name}" for name in names],
        entity_rows=[{"user_id": user_id}],
    ).to_dict()
    items, times, version = (row[name][0] for name in names)
    items, times = merge(items or [], times or [], [item_id], [time], length=length)
    # The row's own time grows with each write: Redis drops a write that isn't later than the row.
    version = max(clock.time_ns() // 1000, (version or 0) + 1)
    moment = EPOCH + timedelta(microseconds=version)
    frame = pd.DataFrame(
        {
            "user_id": [user_id],
            "item_ids": [items],
            "timestamps": [times],
            "version": [version],
            "event_timestamp": [moment],
            "created_timestamp": [moment],
        }
    )
    store.push("user_recent_source", frame)


@contextmanager
def user_lock(store: FeatureStore, folder: Path, user_id: str) -> Iterator[Any]:
    """Hold the user's lock; yields a function that tells, afterwards, whether it held to the end.

    On Redis the lock lies there (writers on several machines); otherwise it is a file.
    """
    online: Any = store.config.online_store
    if online.type == "redis":
        yield from _redis_lock(store, user_id)
        return
    stripe = zlib.crc32(user_id.encode()) % STRIPES
    with exclusive(folder / "locks" / f"{stripe:04d}", busy="another writer", wait=True):
        yield lambda: True


def _redis_lock(store: FeatureStore, user_id: str) -> Iterator[Any]:
    from redis.exceptions import LockError, LockNotOwnedError

    backend: Any = store._get_provider()
    client = backend.online_store._get_client(store.config.online_store)
    name = f"tesserec:lock:{store.project}:{user_id}"
    lock = client.lock(name, timeout=REDIS_LOCK_S, blocking_timeout=2 * REDIS_LOCK_S, sleep=0.005)
    if not lock.acquire():
        raise ServingError(f"another writer holds the lock of user {user_id} for too long")
    kept = [False]
    try:
        yield lambda: kept[0]
    finally:
        try:
            lock.release()
            kept[0] = True
        except (LockError, LockNotOwnedError):
            kept[0] = False
