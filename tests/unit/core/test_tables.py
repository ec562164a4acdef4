"""Tables of parts: deltas add rows, patches replace them, nothing moves."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

from tesserec.errors import ArtifactError
from tesserec.tables import grow_codes, grow_items

PART = st.tuples(st.booleans(), st.integers(1, 4), st.integers(0, 2**32 - 1))


def write(folder: Path, number: int, patch: bool, count: int, seed: int, size: int) -> list[Path]:
    """One part of each table; returns (codes, items)."""
    rng = np.random.default_rng(seed)
    codes = rng.integers(0, 256, (count, 3), dtype=np.uint8)
    rows = rng.permutation(size)[:count] if patch else np.empty(0, np.int64)
    codes = codes[: len(rows)] if patch else codes
    stem = f"patch-{number:04d}" if patch else f"delta-{number:04d}"
    paths = [folder / f"{stem}.safetensors", folder / f"{stem}.parquet"]
    save_file({"codes": codes, **({"rows": rows.astype(np.int64)} if patch else {})}, paths[0])
    table = {"item_id": [f"{number}-{i}" for i in range(len(codes))], "first": codes[:, 0]}
    if patch:
        table["row"] = rows.astype(np.int64)
    pq.write_table(pa.table(table), paths[1])
    return paths


@settings(max_examples=40, deadline=None)
@given(st.lists(PART, max_size=6), st.integers(0, 6))
def test_parts_one_by_one_are_parts_at_once(
    tmp_path_factory: pytest.TempPathFactory, parts: list[tuple[bool, int, int]], held: int
) -> None:
    folder = tmp_path_factory.mktemp("tables")
    paths = [write(folder, 0, False, 5, 7, 0)]
    want = grow_codes([paths[0][0]]).copy()
    for number, (patch, count, seed) in enumerate(parts, 1):
        paths.append(write(folder, number, patch, count, seed, len(want)))
        want = grow_codes([paths[-1][0]], want)
    at_once = grow_codes([p[0] for p in paths])
    assert (at_once == want).all()
    cut = min(held + 1, len(paths))
    before = grow_codes([p[0] for p in paths[:cut]])
    kept = before.copy()
    assert (grow_codes([p[0] for p in paths[cut:]], before) == want).all()
    assert (before == kept).all(), "what another release holds was changed"
    items = grow_items([p[1] for p in paths])
    assert items.num_rows == len(want) and "row" not in items.column_names
    assert (items["first"].to_numpy() == want[:, 0]).all()


def test_a_patch_of_a_row_that_is_not_there_is_refused(tmp_path: Path) -> None:
    base = write(tmp_path, 0, False, 3, 1, 0)
    patch = write(tmp_path, 1, True, 2, 1, 9)
    for grow, at in ((grow_codes, 0), (grow_items, 1)):
        with pytest.raises(
            ArtifactError, match=r"patch-0001.* replaces row [3-8], and there are 3"
        ):
            grow([base[at], patch[at]])
