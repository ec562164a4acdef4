"""A new event: one line in the raw log, and the user's `user_recent` row in the online store.

The row is read, merged and written under a lock of its user, so that no writer loses another's
event. The log is written before the row and is the record: the next run reads it.
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

from tesserec.errors import ServingError, UsageError
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
        ServingError: the online store did not take it; pushing it again is safe.
    """
    now = clock.time()
    time = int(now) if time is None else int(time)
    if not user_id or not item_id:
        raise UsageError(f"an event needs a user and an item, not {user_id!r} and {item_id!r}")
    if not 0 <= time <= now + FUTURE_S:
        raise UsageError(f"event time {time} is not between 1970 and tomorrow; give seconds, UTC")
    folder, raw_log = workdir / "feature_store", workdir / LOG
    store = _store(folder)
    try:
        _push(store, folder, raw_log, user_id, item_id, time)
    except Exception as error:  # Feast and its stores raise whatever their clients do
        raise ServingError(
            f"the online store of {folder} failed, so the event is in {raw_log} at most: {error}; "
            f"push it again with its time, {time}: an event of the same item and time counts once"
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


def _push(
    store: FeatureStore, folder: Path, raw_log: Path, user_id: str, item_id: str, time: int
) -> None:
    """Log the event once, then merge it into the user's row until a lock held through a write."""
    length = read_state(folder).get("history_length", HISTORY_LENGTH)
    logged = False
    for _ in range(ATTEMPTS):
        with user_lock(store, folder, user_id) as held:
            items, times, version = _recent(store, user_id)
            # The row's own time grows with each write: Redis drops a write that isn't later than
            # the row. Taken before the write, it also makes a write that outlived its lock lose.
            version = max(clock.time_ns() // 1000, version + 1)
            if not logged and (item_id, time) in zip(items, times, strict=True):
                return  # delivered before: in the log and in the row
            if not logged:
                append_log(raw_log, user_id, item_id, time)
                logged = True
            items, times = merge(items, times, [item_id], [time], length=length)
            _write(store, user_id, items, times, version)
        if held():
            return
        log.warning("the lock of user %s ran out during a write; merging again", user_id)
    raise ServingError(f"the lock of user {user_id} was lost {ATTEMPTS} times; is the store slow?")


def _recent(store: FeatureStore, user_id: str) -> tuple[list[str], list[int], int]:
    names = ("item_ids", "timestamps", "version")
    row = store.get_online_features(
        features=[f"user_recent:{name}" for name in names], entity_rows=[{"user_id": user_id}]
    ).to_dict()
    items, times, version = (row[name][0] for name in names)
    return items or [], times or [], version or 0


def _write(
    store: FeatureStore, user_id: str, items: list[str], times: list[int], version: int
) -> None:
    import pandas as pd

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
        with _redis_lock(store, user_id) as held:
            yield held
        return
    stripe = zlib.crc32(user_id.encode()) % STRIPES
    with exclusive(folder / "locks" / f"{stripe:04d}", busy="another writer", wait=True):
        yield lambda: True


@contextmanager
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
