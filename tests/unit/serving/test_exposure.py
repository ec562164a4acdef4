"""What is shown reaches the log off the request's path, whole files at a time, within bounds."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from tesserec.config import ExposureSettings
from tesserec.data.exposures import (
    EXPOSURES,
    HOUR_MS,
    exposures_folder,
    hour_folder,
    read_exposures,
)
from tesserec.errors import RequestError, UsageError
from tesserec.serving import exposure
from tesserec.serving.exposure import ExposureLog, prune
from tesserec.serving.meter import MemoryMeter
from tesserec.serving.request import Request, Response

NOON = 1_700_000_000_000 // HOUR_MS * HOUR_MS


def answered(user: str, *items: str) -> tuple[Request, Response]:
    scores = np.zeros(len(items), np.float32)
    return Request(user), Response(list(items), scores, "r1", "model", "", "")


def rows(workdir: Path, **between: int) -> list[dict[str, Any]]:
    return [row for batch in read_exposures(workdir, **between) for row in batch.to_pylist()]


def opened(workdir: Path, meter: MemoryMeter | None = None, **settings: float) -> ExposureLog:
    told: Any = {"share": 1.0, "flush_s": 3600.0} | settings
    return ExposureLog(workdir, ExposureSettings(**told), meter or MemoryMeter(), random.Random(7))


def test_a_row_of_each_answer_and_none_of_an_error(tmp_path: Path) -> None:
    meter = MemoryMeter()
    log = opened(tmp_path, meter)
    first, second = answered("U1", "I3", "I1"), answered("", "I2")
    bad = RequestError("no")
    before = int(time.time() * 1000)
    log.put([first[0], bad, second[0], Request("U9")], [first[1], bad, second[1], bad])
    assert not exposures_folder(tmp_path).exists(), "nothing is written on the request's path"
    log.close()
    found = rows(tmp_path)
    assert [(row["user_id"], row["item_ids"]) for row in found] == [
        ("U1", ["I3", "I1"]),
        ("", ["I2"]),
    ]
    assert all(row["release_id"] == "r1" and row["source"] == "model" for row in found)
    assert all(row["share"] == 1.0 for row in found)
    assert all(before <= row["timestamp_ms"] <= before + 60_000 for row in found)
    assert meter.values["tesserec_exposure_rows_total", "written"] == 2
    assert meter.values[("tesserec_exposure_bytes",)] > 0
    (path,) = exposures_folder(tmp_path).rglob("*.parquet")
    assert path.parent == hour_folder(tmp_path, before) or path.parent > hour_folder(
        tmp_path, before
    )
    assert pq.read_schema(path).equals(EXPOSURES)


def test_a_share_is_chosen_by_chance_and_the_same_with_the_same_seed(tmp_path: Path) -> None:
    request, response = answered("U1", "I1")
    counts = []
    for name in ("a", "b"):
        log = opened(tmp_path / name, share=0.25)
        for _ in range(4000):
            log.put([request], [response])
        log.close()
        counts.append(len(rows(tmp_path / name)))
    assert counts[0] == counts[1] and 850 < counts[0] < 1150
    log = opened(tmp_path / "none", share=0)
    log.put([request], [response])
    log.close()
    assert not exposures_folder(tmp_path / "none").exists()


def test_a_full_queue_drops_and_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exposure, "QUEUE_ROWS", 10)
    meter = MemoryMeter()
    log = opened(tmp_path, meter)
    many = [answered(f"U{n}", "I1") for n in range(25)]
    log.put(*zip(*many, strict=True))
    log.close()
    assert len(rows(tmp_path)) == 10
    assert meter.values["tesserec_exposure_rows_total", "dropped"] == 15


def test_a_disk_that_hangs_does_not_fail_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exposure, "CLOSE_S", 0.05)
    begun, go_on = threading.Event(), threading.Event()

    def hang(*_: Any) -> None:
        begun.set()
        go_on.wait(20)

    monkeypatch.setattr(ExposureLog, "_write", hang)
    log = opened(tmp_path, flush_s=0.01)
    log.put(*zip(answered("U1", "I1"), strict=True))
    assert begun.wait(20)
    log.put(*zip(answered("U2", "I1"), strict=True))
    ended = threading.Thread(target=log.close)
    ended.start()
    ended.join(5)
    assert not ended.is_alive(), "the server would not stop"
    go_on.set()


def test_a_folder_that_cannot_be_written_loses_rows_and_no_request(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    exposures_folder(tmp_path).write_text("a file where the folder should be")
    meter = MemoryMeter()
    log = opened(tmp_path, meter)
    for _ in range(3):
        log.put(*zip(answered("U1", "I1"), strict=True))
        log.flush()
    assert meter.values["tesserec_exposure_rows_total", "dropped"] == 3
    assert caplog.text.count("can't be written") == 1, "not once a flush"
    exposures_folder(tmp_path).unlink()
    log.put(*zip(answered("U2", "I1"), strict=True))
    log.close()
    assert [row["user_id"] for row in rows(tmp_path)] == ["U2"]


def test_rows_are_written_in_time_and_in_files_of_their_hour(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [NOON / 1000]
    monkeypatch.setattr(exposure.time, "time", lambda: now[0])
    log = opened(tmp_path, flush_s=0.05)
    try:
        log.put(*zip(answered("U1", "I1"), strict=True))
        now[0] += 3600
        log.put(*zip(answered("U2", "I1"), strict=True))
        deadline = time.monotonic() + 10
        while len(rows(tmp_path)) < 2 and time.monotonic() < deadline:
            time.sleep(0.02)
    finally:
        log.close()
    folders = sorted(p.parent for p in exposures_folder(tmp_path).rglob("*.parquet"))
    assert folders == [hour_folder(tmp_path, NOON), hour_folder(tmp_path, NOON + HOUR_MS)]
    assert folders[0].name == "hour=22" and folders[0].parent.name == "date=2023-11-14"


def test_reading_a_range_of_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = opened(tmp_path)
    for hour in range(30):
        for second in (0, 1800):
            moment = NOON / 1000 + 3600 * hour + second
            monkeypatch.setattr(exposure.time, "time", lambda moment=moment: moment)
            log.put(*zip(answered(f"{hour}:{second}", "I1"), strict=True))
    log.close()
    found = rows(tmp_path, since_ms=NOON + HOUR_MS // 2, until_ms=NOON + 26 * HOUR_MS)
    assert [row["user_id"] for row in found][:2] == ["0:1800", "1:0"]
    assert found[-1]["user_id"] == "25:1800" and len(found) == 51
    assert len(rows(tmp_path)) == 60 and not rows(tmp_path / "nowhere")


def test_the_oldest_hours_go(tmp_path: Path) -> None:
    for hour in (0, 1, 30):
        folder = hour_folder(tmp_path, NOON + hour * HOUR_MS)
        folder.mkdir(parents=True)
        for number in range(3):
            (folder / f"{number}-x.parquet").write_bytes(bytes(1000))
    assert prune(tmp_path, 9000) == 9000
    assert prune(tmp_path, 8500) == 6000, "a whole hour"
    assert not hour_folder(tmp_path, NOON).exists()
    assert prune(tmp_path, 2500) == 2000, "the hours before, and of the last its oldest file"
    left = sorted(path.name for path in exposures_folder(tmp_path).rglob("*.parquet"))
    assert left == ["1-x.parquet", "2-x.parquet"]
    assert not hour_folder(tmp_path, NOON).parent.exists(), "nor an empty day"


def test_a_log_stays_within_its_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log, rng = opened(tmp_path, max_mb=1.0), random.Random(3)
    for hour in range(8):
        moment = NOON / 1000 + 3600 * hour
        monkeypatch.setattr(exposure.time, "time", lambda moment=moment: moment)
        for _ in range(3000):  # random ids, which don't shrink: some 0.3 MB an hour
            log.put(*zip(answered(f"{rng.getrandbits(400):x}", "I1"), strict=True))
        log.flush()
        size = sum(p.stat().st_size for p in exposures_folder(tmp_path).rglob("*.parquet"))
        assert size <= 1_000_000
    log.close()
    hours = {row["timestamp_ms"] for row in rows(tmp_path)}
    assert max(hours) == NOON + 7 * HOUR_MS and 2 <= len(hours) < 8


def test_a_hidden_file_is_no_row_and_goes_after_an_hour(tmp_path: Path) -> None:
    folder = hour_folder(tmp_path, NOON)
    folder.mkdir(parents=True)
    for name, age in ((".killed.parquet", 4000), (".writing.parquet", 0)):
        (folder / name).write_text("half a file")
        os.utime(folder / name, (time.time() - age, time.time() - age))
    assert rows(tmp_path) == []
    assert prune(tmp_path, 10) == 0
    assert [path.name for path in folder.iterdir()] == [".writing.parquet"]


def test_several_servers_and_a_reader_side_by_side(tmp_path: Path) -> None:
    stop, seen = threading.Event(), []

    def read() -> None:
        while not stop.is_set():
            seen.append(len(rows(tmp_path)))

    reader = threading.Thread(target=read)
    reader.start()
    logs = [opened(tmp_path, flush_s=0.01) for _ in range(3)]
    for number in range(300):
        logs[number % 3].put(*zip(answered(f"U{number}", "I1"), strict=True))
        time.sleep(0.0005)
    for log in logs:
        log.close()
    stop.set()
    reader.join()
    assert sorted(row["user_id"] for row in rows(tmp_path)) == sorted(f"U{n}" for n in range(300))
    assert seen == sorted(seen), "a reader sees whole files, and ever more"


KILLED = """
import os, signal, sys, time
from pathlib import Path
from tests.unit.serving.test_exposure import answered, opened
log = opened(Path(sys.argv[1]), flush_s=0.02)
for number in range(100000):
    log.put(*zip(answered(f"U{number}", *[f"I{n}" for n in range(50)]), strict=True))
    if number % 50 == 0:
        print(number, flush=True)
        time.sleep(0.001)
"""


def test_a_kill_leaves_whole_files(tmp_path: Path) -> None:
    child = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(tmp_path)],
        cwd=Path(__file__).parents[3],
        stdout=subprocess.PIPE,
    )
    try:
        assert child.stdout
        deadline = time.monotonic() + 60
        while len(rows(tmp_path)) < 500 and time.monotonic() < deadline:
            child.stdout.readline()
    finally:
        child.kill()
        child.wait()
    found = rows(tmp_path)
    assert len(found) >= 500 and all(len(row["item_ids"]) == 50 for row in found)
    assert sorted(int(row["user_id"][1:]) for row in found) == list(range(len(found)))


@pytest.mark.parametrize(
    ("key", "value"), [("share", 1.5), ("share", -0.1), ("flush_s", 0.0), ("max_mb", 0.5)]
)
def test_settings_are_checked(key: str, value: float) -> None:
    with pytest.raises(UsageError, match=rf"exposure\.{key} is {value}"):
        ExposureSettings(**{key: value})
