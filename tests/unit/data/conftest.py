from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from tesserec.config import from_dict
from tesserec.steps import ingest as step

ITEMS = "item_id,title\na,Red pan\nb,Blue pan\nc,Green lid\n"
EVENTS = "user_id,item_id,timestamp\n"


@dataclass
class Raw:
    """What the step left: counts and the four tables."""

    path: Path
    key: str
    content: str
    counts: dict[str, Any]
    interactions: pa.Table
    items: pa.Table
    quarantine: list[dict[str, Any]]

    def column(self, name: str) -> list[Any]:
        return self.interactions[name].to_pylist()


@pytest.fixture
def ingest(tmp_path: Path) -> Callable[..., Raw]:
    """Run the step `ingest` with `data` settings in a workdir of its own (or a given one)."""

    def run(
        data: dict[str, Any],
        encoder: dict[str, Any] | None = None,
        workdir: Path | None = None,
        tokenizer: dict[str, Any] | None = None,
    ) -> Raw:
        tree: dict[str, Any] = {"data": {"max_bad_share": 1.0, **data}}
        tree |= {"encoder": encoder or {}, "tokenizer": tokenizer or {}}
        artifact = step.run(workdir or tmp_path / "work", from_dict(tree))
        return Raw(
            artifact.path,
            artifact.key,
            artifact.content_hash,
            artifact.read_json("counts.json"),
            ds.dataset(artifact.file("interactions")).to_table(),
            ds.dataset(artifact.file("items")).to_table(),
            pq.read_table(artifact.file("quarantine.parquet")).to_pylist(),
        )

    return run


@pytest.fixture
def shop(tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """Write a folder of two small files; returns the `data` settings that read it."""

    def write(
        events: str | bytes = EVENTS + "u,a,1000\nu,b,2000\nv,c,1500\n",
        items: str | bytes | None = ITEMS,
        name: str = "events.csv",
        **settings: Any,
    ) -> dict[str, Any]:
        folder = tmp_path / "shop"
        folder.mkdir(exist_ok=True)
        (folder / name).write_bytes(events.encode() if isinstance(events, str) else events)
        data: dict[str, Any] = {"source": "folder", "path": str(folder), "interactions": name}
        if items is not None:
            text = items.encode() if isinstance(items, str) else items
            (folder / "items.csv").write_bytes(text)
            data["items"] = "items.csv"
        return data | settings

    return write


@pytest.fixture
def log_events() -> Callable[..., None]:
    """Append lines to the raw event log of a workdir."""

    def append(workdir: Path, *events: dict[str, Any] | str) -> None:
        path = workdir / "events" / "log.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a") as handle:
            for event in events:
                handle.write(event if isinstance(event, str) else json.dumps(event) + "\n")

    return append
