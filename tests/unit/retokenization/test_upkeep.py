"""What maintain writes of items: counts, life, and who is let go."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from tesserec.retokenization import life
from tesserec.retokenization.upkeep import upkept


def items() -> pa.Table:
    table = pa.table({"item_id": ["a", "b", "c", "d"], "count_all": [1, 2, 3, None]})
    table = life.with_life(table)
    status = pa.array(["quarantined", None, "retired", None], pa.string())
    return table.set_column(table.column_names.index(life.STATUS), life.STATUS, status)


def test_only_rows_that_change_are_written() -> None:
    counts = {"count_all": np.array([1, 2, 3, 0]), "unknown": np.zeros(4, np.int64)}
    nothing: dict[int, np.ndarray] = {}
    assert upkept(items(), counts, activated=[], pending=nothing, gone=[], now=9) is None
    counts["count_all"][1] = 5
    patch = upkept(items(), counts, activated=[0], pending=nothing, gone=[2], now=9)
    assert patch is not None and patch["row"].to_pylist() == [0, 1, 2]
    assert patch["count_all"].to_pylist() == [1, 5, 3]
    assert patch[life.STATUS].to_pylist() == ["active", None, "purged"]
    assert patch[life.SINCE].to_pylist() == [9, None, 9]


def test_a_code_that_waits_is_the_new_one() -> None:
    code = np.array([3, 1], np.uint8)
    counts = {"count_all": np.array([1, 2, 3, 0])}
    patch = upkept(items(), counts, activated=[], pending={0: code}, gone=[], now=9)
    assert patch is not None and patch[life.PENDING].to_pylist() == [[3, 1]]
    assert patch[life.STATUS].to_pylist() == ["quarantined"]
