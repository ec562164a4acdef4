"""A raw artefact written by hand: tests of later rooms need no ingest."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tesserec.artifacts import Artifact, build
from tesserec.data.schemas import INTERACTIONS, ITEMS

Event = tuple[str, str, int | None, int]  # user, item, timestamp, position
DAY = 86_400


def random_events(
    users: int, items: int, longest: int, *, seed: int = 0, times: bool = True, days: int = 90
) -> list[Event]:
    """Users u0.. with 1 to `longest` events each, on days, so that many times are equal."""
    rng = random.Random(seed)
    events: list[Event] = []
    for user in range(users):
        n = rng.randint(1, longest)
        stamps = sorted(1_600_000_000 // DAY * DAY + rng.randrange(days) * DAY for _ in range(n))
        for position, stamp in enumerate(stamps):
            item = f"i{int(items * rng.random() ** 2)}"
            events.append((f"u{user}", item, stamp if times else None, position))
    rng.shuffle(events)
    return events


def write_raw(
    folder: Path,
    events: Sequence[Event],
    items: Sequence[Mapping[str, Any]],
    *,
    parts: int = 2,
    group: int = 97,
) -> None:
    """The files of a raw artefact, in several parts and row groups."""
    columns = list(zip(*events, strict=True)) if events else [(), (), (), ()]
    table = pa.table(
        [*columns, ["interaction"] * len(events)],
        schema=INTERACTIONS,
    )
    catalogue = pa.Table.from_pylist(list(items), schema=ITEMS)
    for name, whole in (("interactions", table), ("items", catalogue)):
        (folder / name).mkdir(parents=True)
        size = -(-len(whole) // parts) or 1
        for part in range(parts):
            path = folder / name / f"part-{part:05d}.parquet"
            pq.write_table(whole.slice(part * size, size), path, row_group_size=group)


def raw_artifact(
    workdir: Path, events: Sequence[Event], items: Sequence[Mapping[str, Any]]
) -> Artifact:
    """A finished `raw` artefact of these rows."""

    def make(folder: Path) -> None:
        write_raw(folder, events, items)
        (folder / "counts.json").write_text("{}")

    params = {"rows": [list(event) for event in events]}
    return build(workdir, "raw", params=params, parents=[], version=1, make=make)[0]


def catalogue(items: int) -> list[dict[str, Any]]:
    """Items i0.. in a shuffled order, some with a listing time, some withdrawn."""
    order = list(range(items))
    random.Random(1).shuffle(order)
    return [
        {
            "item_id": f"i{i}",
            "title": f"Item {i}",
            "categories": ["a > b", f"c{i % 3}"],
            "price": i / 4,
            "available": None if i % 3 else i % 2 == 0,
            "listed_at": 1_500_000_000 if i % 5 == 0 else None,
        }
        for i in order
    ]
