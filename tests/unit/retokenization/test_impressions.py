"""What counts as an impression: the exposure log, else interactions, else items alike."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tesserec.data.exposures import EXPOSURES, hour_folder
from tesserec.retokenization.impressions import impressions

NOW = 1_800_000_000
DAY = 86_400
ROW_OF = {"a": 0, "b": 1, "c": 2}
EVENTS = np.array([0, 0, 1, -1, 2]), np.array([10, 10 * DAY, 9 * DAY, 10 * DAY, 3 * DAY])


def shown(workdir: Path, age_s: int, *items: str, share: float = 1.0) -> None:
    """One answer with these items, so many seconds ago."""
    moment = (NOW - age_s) * 1000
    row: dict[str, Any] = {"timestamp_ms": moment, "user_id": "U", "release_id": "r"}
    row |= {"source": "model", "item_ids": list(items), "share": share}
    folder = hour_folder(workdir, moment)
    folder.mkdir(parents=True, exist_ok=True)
    table = pa.Table.from_pylist([row], schema=EXPOSURES)
    pq.write_table(table, folder / f"{len(list(folder.iterdir()))}.parquet")


def test_the_exposure_log_of_seven_days(tmp_path: Path) -> None:
    shown(tmp_path, 60, "a", "b", "unknown")
    shown(tmp_path, 6 * DAY, "a")
    shown(tmp_path, 8 * DAY, "c")
    shown(tmp_path, 90)
    counts, source = impressions(tmp_path, ROW_OF, EVENTS, now=NOW)
    assert source == "exposures" and counts.tolist() == [2, 1, 0]


def test_a_log_of_some_answers_counts_for_all(tmp_path: Path) -> None:
    shown(tmp_path, 60, "a", share=0.25)
    shown(tmp_path, 60, "b", share=1.0)
    assert impressions(tmp_path, ROW_OF, None, now=NOW)[0].tolist() == [4, 1, 0]


def test_without_one_the_last_interactions(tmp_path: Path) -> None:
    """Of the seven days before the data's last one: they may be old."""
    shown(tmp_path, 8 * DAY, "c")
    counts, source = impressions(tmp_path, ROW_OF, EVENTS, now=NOW)
    assert source == "interactions" and counts.tolist() == [1, 1, 0]


def test_without_either_items_alike(tmp_path: Path) -> None:
    for events in (None, (np.empty(0, np.int64), np.empty(0, np.int64))):
        counts, source = impressions(tmp_path, ROW_OF, events, now=NOW)
        assert source == "items alike" and counts.tolist() == [1, 1, 1]
