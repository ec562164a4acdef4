"""The features in plain Python, one row at a time: what the vectorised job must equal."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from tests.fakes.raw import DAY, Event


def ordered(events: list[Event]) -> dict[str, list[tuple[str, int]]]:
    """(item, time) of each user, by time and position; a row that came twice counts once."""
    users: dict[str, list[tuple[int, int, str]]] = defaultdict(list)
    for user, item, stamp, position in set(events):
        users[user].append((position if stamp is None else stamp, position, item))
    return {u: [(item, t) for t, _, item in sorted(rows)] for u, rows in users.items()}


def history(
    sequence: list[tuple[str, int]], cut: int, length: int, limit: int
) -> tuple[list[str], list[int], list[str]]:
    before = [event for event in sequence if event[1] < cut]
    last = before[-length:]
    seen = list(dict.fromkeys(item for item, _ in reversed(before)))
    return [i for i, _ in last], [t for _, t in last], seen[:limit]


def stats(
    events: list[Event], items: list[str], watermark: int, windows: tuple[int, ...], times: bool
) -> dict[str, dict[str, Any]]:
    rows: dict[str, list[tuple[str, int]]] = {item: [] for item in items}
    for user, item, stamp, position in events:
        rows.setdefault(item, []).append((user, position if stamp is None else stamp))
    table = {}
    for item, found in rows.items():
        row: dict[str, Any] = {"count_all": len(found), "users_all": len({u for u, _ in found})}
        for days in windows:
            now = [(u, t) for u, t in found if t >= watermark - days * DAY]
            before = [t for _, t in found if t >= watermark - 2 * days * DAY]
            old = len(before) - len(now)
            row[f"count_{days}d"] = len(now) if times else None
            row[f"users_{days}d"] = len({u for u, _ in now}) if times else None
            trend = (len(now) - old) / max(len(now) + old, 1)
            row[f"trend_{days}d"] = trend if times else None
        stamps = [t for _, t in found]
        row["first_seen"] = min(stamps) if stamps and times else None
        row["last_seen"] = max(stamps) if stamps and times else None
        table[item] = row
    return table
