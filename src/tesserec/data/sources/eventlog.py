"""The raw event log `<workdir>/events/log.jsonl`: events pushed since the source was written."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from tesserec.data.cells import as_json
from tesserec.data.records import Bad, Chunk
from tesserec.data.sources.readers import read_json_lines

_COLUMNS = ("user_id", "item_id", "timestamp", "event_type")
DELIVERED = "the log has this event already"


@dataclass(frozen=True)
class EventLog:
    """A log as long as it was when looked at; events that come later wait for the next run."""

    path: Path
    bytes: int
    sha256: str

    def chunks(self) -> Iterator[Chunk]:
        """The events; a last line that was torn by a crash is a bad one.

        A push that failed after its line was written is pushed again: a line of the same user,
        item and time is the same event, and a bad row too.
        """
        if self.bytes:
            chunks = read_json_lines(self.path, _event, _COLUMNS, limit_bytes=self.bytes)
            yield from _once(chunks)


def event_log(workdir: Path) -> EventLog:
    """The log of a workdir; without one, an empty log."""
    path = workdir / "events" / "log.jsonl"
    digest, size = hashlib.sha256(), 0
    if path.is_file():
        with path.open("rb") as handle:
            while block := handle.read(1 << 20):
                digest.update(block)
                size += len(block)
    return EventLog(path, size, digest.hexdigest())


def _once(chunks: Iterator[Chunk]) -> Iterator[Chunk]:
    seen: set[bytes] = set()
    for chunk in chunks:
        events = chunk.table.to_pylist()
        new = np.ones(len(events), bool)
        for at, event in enumerate(events):
            key = repr([event[name] for name in _COLUMNS[:3]]).encode()
            digest = hashlib.blake2b(key, digest_size=16).digest()
            new[at] = digest not in seen
            seen.add(digest)
        again = [
            Bad(int(chunk.rows[at]), DELIVERED, as_json(events[at])) for at in np.flatnonzero(~new)
        ]
        table = chunk.table.filter(pa.array(new))
        yield replace(chunk, table=table, rows=chunk.rows[new], bad=(*chunk.bad, *again))


def _event(record: dict[str, Any]) -> dict[str, Any]:
    time = record.get("time", record.get("timestamp"))
    return {
        "user_id": _text(record.get("user_id")),
        "item_id": _text(record.get("item_id")),
        "timestamp": _text(time),
        "event_type": _text(record.get("event_type")),
    }


def _text(value: Any) -> str | None:
    return None if value is None else str(value)
