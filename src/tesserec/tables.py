"""The tables of a release from their parts: a base, deltas after it, patches over it, in order.

A part named `patch-NNNN` replaces rows that are there: its codes come with `rows`, its items with
a column `row`. Any other part adds rows at the end. So rows never move.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from safetensors.numpy import load_file

from tesserec.errors import ArtifactError

if TYPE_CHECKING:
    import pyarrow as pa

PATCH = "patch-"
ROW = "row"  # of an items patch


def is_patch(path: Path | str) -> bool:
    return Path(path).name.startswith(PATCH)


def grow_codes(paths: Sequence[Path], held: np.ndarray | None = None) -> np.ndarray:
    """Codes [N, m] of all parts in order, after those that are at hand, which stay as they are.

    Raises:
        ArtifactError: a patch of rows that are not there.
    """
    added = [] if held is None else [held]
    for path in paths:
        part = load_file(path)
        if not is_patch(path):
            added.append(part["codes"])
            continue
        found = np.concatenate(added)  # a copy: another release may hold what it is made of
        rows = part["rows"]
        _check(path, rows, len(found))
        found[rows] = part["codes"]
        added = [found]
    return added[0] if len(added) == 1 else np.concatenate(added)


def grow_items(paths: Sequence[Path], held: pa.Table | None = None) -> pa.Table:
    """The items of all parts in order, after those that are at hand.

    A column that an older part lacks is null there.

    Raises:
        ArtifactError: a patch of rows that are not there.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    parts = [] if held is None else [held]
    index = np.arange(0 if held is None else held.num_rows)
    read = len(index)
    for path in paths:
        part = pq.read_table(path)
        places = np.arange(read, read + part.num_rows)
        if is_patch(path):
            rows = part[ROW].to_numpy()
            _check(path, rows, len(index))
            index[rows] = places
            part = part.drop_columns([ROW])
        else:
            index = np.concatenate([index, places])
        parts.append(part)
        read += part.num_rows
    items = _joined(parts)
    return items if len(index) == read else items.take(pa.array(index))


def _joined(tables: Sequence[pa.Table]) -> pa.Table:
    import pyarrow as pa

    return tables[0] if len(tables) == 1 else pa.concat_tables(tables, promote_options="default")


def _check(path: Path, rows: np.ndarray, count: int) -> None:
    wrong = rows[(rows < 0) | (rows >= count)]
    if len(wrong):
        raise ArtifactError(
            f"{path} replaces row {int(wrong[0])}, and there are {count}; its parts are not of one "
            "release: run `tesserec release verify`"
        )
