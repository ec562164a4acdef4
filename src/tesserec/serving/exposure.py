"""Writes the exposure log (`tesserec.data.exposures`): off the request's path, bounded everywhere.

A request adds a row to a queue; a thread writes what has gathered. A full queue, a full disk or a
folder that can't be written lose rows, which are counted, and never a request.
"""

from __future__ import annotations

import logging
import os
import random
import socket
import threading
import time
from collections import deque
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tesserec.artifacts import fsync_folder
from tesserec.config import ExposureSettings
from tesserec.data.exposures import (
    EXPOSURES,
    HOUR_MS,
    exposures_folder,
    hour_folder,
    hour_folders,
)
from tesserec.serving.meter import Meter
from tesserec.serving.request import Request, Response

log = logging.getLogger(__name__)
QUEUE_ROWS = 50_000  # waiting; the next ones are dropped. Some 20 MiB with 10 items a row
FILE_ROWS = 10_000  # then they are written at once
BATCH_ROWS = 500  # made into Arrow at once: a millisecond in which no request is answered
SCAN_S = 300.0  # between looks at the size of the whole log, to which other servers add
ROOM = 0.95  # of the limit is left when old hours are deleted, so that it isn't done each time
QUIET_S = 60.0  # a folder that can't be written is logged once in so long
CLOSE_S = 5.0
ORPHAN_S = 3600.0  # a hidden file so old is what a killed server left
Row = tuple[int, str, str, str, list[str], float]


class ExposureLog:
    """Takes answers, writes one file for each hour in what has gathered every `flush_s`.

    Args:
        rng: chooses which answers are logged; None: another choice in every process.
    """

    def __init__(
        self,
        workdir: Path,
        settings: ExposureSettings,
        meter: Meter,
        rng: random.Random | None = None,
    ) -> None:
        self._workdir, self._settings, self._meter = workdir, settings, meter
        self._rng = rng or random.Random()
        self._rows: deque[Row] = deque()
        # Host and process: several servers may write into one folder, also over a network.
        self._writer = f"{socket.gethostname()}-{os.getpid()}-{os.urandom(3).hex()}"
        self._files = 0
        self._size, self._scan_at = 0, 0.0
        self._complain_at = 0.0
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        if settings.share > 0:
            # pyarrow imports pandas at its first array: a second, and not while requests wait
            pq.write_table(_table([(0, "", "", "", [""], 1.0)]), pa.BufferOutputStream())
            self._thread = threading.Thread(target=self._follow, name="exposures", daemon=True)
            self._thread.start()

    def put(self, requests: Sequence[Any], answers: Sequence[Any]) -> None:
        """Note a share of what is answered; errors show nobody anything."""
        share = self._settings.share
        if not share:
            return
        now, dropped = int(time.time() * 1000), 0
        for request, answer in zip(requests, answers, strict=True):
            if not isinstance(request, Request) or not isinstance(answer, Response):
                continue
            if share < 1 and self._rng.random() >= share:
                continue
            if len(self._rows) >= QUEUE_ROWS:
                dropped += 1
                continue
            shown = answer.release_id, answer.source, answer.item_ids
            self._rows.append((now, request.user_id, *shown, share))
        if dropped:
            self._meter.add("tesserec_exposure_rows_total", dropped, outcome="dropped")

    def close(self) -> None:
        """Write what is left."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(timeout=CLOSE_S)
            if not self._thread.is_alive():  # else its disk hangs: two would take the same rows
                self.flush()

    def flush(self) -> None:
        """Write the rows that wait and keep the log within its size; never raises for a disk."""
        rows = [self._rows.popleft() for _ in range(len(self._rows))]
        hours: dict[int, list[Row]] = {}
        for row in rows:
            hours.setdefault(row[0] // HOUR_MS, []).append(row)
        for part in hours.values():
            try:
                self._write(part)
                outcome = "written"
            except OSError as error:
                outcome = "dropped"
                self._complain(error)
            self._meter.add("tesserec_exposure_rows_total", len(part), outcome=outcome)
        try:
            self._keep_within()
        except OSError as error:
            self._complain(error)

    def _keep_within(self) -> None:
        limit = int(self._settings.max_mb * 1e6)
        if self._size > limit or time.monotonic() >= self._scan_at:
            self._size = prune(self._workdir, limit)
            self._scan_at = time.monotonic() + SCAN_S
        self._meter.set("tesserec_exposure_bytes", self._size)

    def _follow(self) -> None:
        due = time.monotonic() + self._settings.flush_s
        while not self._stop.wait(min(1.0, self._settings.flush_s)):
            if time.monotonic() < due and len(self._rows) < FILE_ROWS:
                continue
            due = time.monotonic() + self._settings.flush_s
            try:
                self.flush()
            except Exception:  # a fault of ours: the next rows may be written all the same
                log.exception("rows of the exposure log are lost")

    def _write(self, rows: Sequence[Row]) -> None:
        """One file, which appears by a rename once all of it is on the disk."""
        table = _table(rows)
        folder = hour_folder(self._workdir, rows[0][0])
        folder.mkdir(parents=True, exist_ok=True)
        name = f"{rows[0][0]}-{self._writer}-{self._files}.parquet"
        self._files += 1
        hidden = folder / f".{name}"
        try:
            with hidden.open("wb") as out:
                pq.write_table(table, out, compression="zstd")
                out.flush()
                os.fsync(out.fileno())
            self._size += hidden.stat().st_size
            os.replace(hidden, folder / name)
        except BaseException:
            with suppress(OSError):
                hidden.unlink(missing_ok=True)
            raise
        fsync_folder(folder)

    def _complain(self, error: OSError) -> None:
        if time.monotonic() >= self._complain_at:
            self._complain_at = time.monotonic() + QUIET_S
            log.error("%s can't be written: %s", exposures_folder(self._workdir), error)


def _table(rows: Sequence[Row]) -> pa.Table:
    parts = [rows[at : at + BATCH_ROWS] for at in range(0, len(rows), BATCH_ROWS)]
    return pa.Table.from_batches([_batch(part) for part in parts])


def _batch(rows: Sequence[Row]) -> pa.RecordBatch:
    columns = [
        pa.array(list(values), field.type)
        for values, field in zip(zip(*rows, strict=True), EXPOSURES, strict=True)
    ]
    return pa.record_batch(columns, schema=EXPOSURES)


def prune(workdir: Path, limit: int) -> int:
    """If there are more than `limit` bytes, delete the oldest hours; returns how many are left.

    Of the last hour, which is being written, the oldest files go. Servers may do so side by side.
    """
    hours = [(folder, _files(folder)) for folder in hour_folders(workdir)]
    total = sum(size for _, files in hours for _, size in files)
    if total <= limit:
        return total
    limit = int(ROOM * limit)
    for folder, files in hours[:-1]:
        if total <= limit:
            return total
        total -= _delete(files)
        for empty in (folder, folder.parent):
            with suppress(OSError):  # another server has done it, or the day has more hours
                empty.rmdir()
    for file in hours[-1][1] if hours else ():
        if total <= limit:
            break
        total -= _delete([file])
    return total


def _files(folder: Path) -> list[tuple[Path, int]]:
    """Path and size of each file, oldest first (names begin with the time)."""
    found = []
    with suppress(FileNotFoundError), os.scandir(folder) as entries:
        for entry in entries:
            with suppress(FileNotFoundError):  # deleted or renamed meanwhile
                stat = entry.stat()
                if not entry.name.startswith("."):
                    found.append((Path(entry.path), stat.st_size))
                elif time.time() - stat.st_mtime > ORPHAN_S:
                    os.unlink(entry.path)
    return sorted(found)


def _delete(files: Iterable[tuple[Path, int]]) -> int:
    size = 0
    for path, one in files:
        path.unlink(missing_ok=True)
        size += one
    return size
