"""Releases that differ from another by rows: what the list tells of them."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from tesserec.release import list_releases, promote, verify
from tesserec.release.delta import Delta, build_delta
from tesserec.release.manifest import release_folder
from tests.fakes.release import ITEMS, tiny_release


def test_a_patch_adds_no_items(tmp_path: Path) -> None:
    base = tiny_release(tmp_path)
    promote(tmp_path, base)
    items = pq.read_table(release_folder(tmp_path, base) / "items/base-0000.parquet")
    patch = items.slice(3, 2).append_column("row", pa.array([3, 4], pa.int64()))
    made = build_delta(tmp_path, base, Delta(item_patch=patch), cadence="encode")
    assert verify(release_folder(tmp_path, made)) == []
    assert {row["items"] for row in list_releases(tmp_path)} == {ITEMS}
