"""Events of the tiny stock's items: a features artefact with its raw one, as `ingest` leaves it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tesserec.artifacts import Artifact, build, write_atomic
from tesserec.data.splits import SEQUENCES
from tests.fakes import release as fake

START = 1_780_000_000  # of the newest block: seconds
OLD = 1_700_000_000  # the tiny release's model knows these
Walks = dict[str, list[tuple[str, int]]]  # user -> (item, seconds), in order


def walks(*, users: int = 40, old: int = 8, new: int = 5) -> Walks:
    """Each user goes round the items; `new` events of each are later than START."""
    found = {}
    for user in range(users):
        items = [fake.item_id((3 * user + step) % fake.ITEMS) for step in range(old + new)]
        times = [OLD + step for step in range(old)]
        times += [START + 100 * step + user for step in range(new)]
        found[f"U{user:03d}"] = list(zip(items, times, strict=True))
    return found


def events(workdir: Path, told: Walks, **params: Any) -> Artifact:
    """The artefact `features`; `params` are those of its raw one ({files, log})."""
    raw, _ = build(
        workdir,
        "raw",
        params={"files": [], "log": None} | params,
        parents=(),
        version=1,
        make=lambda folder: write_atomic(folder / "rows.json", json.dumps(told)),
    )
    made, _ = build(
        workdir,
        "features",
        params={},
        parents=[raw],
        version=1,
        make=lambda folder: _features(folder, told),
    )
    return made


def _features(folder: Path, told: Walks) -> None:
    counts: dict[str, int] = {}
    rows = []
    for user, steps in told.items():
        ids, times = ([step[at] for step in steps] for at in (0, 1))
        rows.append({"user_id": user, "item_ids": ids, "timestamps": times})
        for item in ids:
            counts[str(item)] = counts.get(str(item), 0) + 1
    tables = {
        "sequences": pa.Table.from_pylist(rows, schema=SEQUENCES),
        "item_stats": pa.table({"item_id": list(counts), "count_all": list(counts.values())}),
    }
    for name, table in tables.items():
        (folder / name).mkdir()
        pq.write_table(table, folder / name / "part-0.parquet")
    (folder / "summary.json").write_text(json.dumps({"cuts": {"train": None}, "has_times": True}))
