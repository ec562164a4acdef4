"""When two rankings are equal, and which users a rehearsal asks."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tesserec.artifacts import Artifact, build
from tesserec.errors import TesserecError
from tesserec.serving.rehearsal import Ranking, difference, sample_users


def test_equal_rankings() -> None:
    ours = Ranking(["a", "b", "c"], [-10.0, -20.0, -30.0])
    assert difference(ours, ours) is None
    assert difference(ours, Ranking(["a", "b", "c"], [-10.0005, -19.999, -30.002])) is None
    assert difference(Ranking([], []), Ranking([], [])) is None


def test_ties_may_change_places_and_leave_at_the_end() -> None:
    ours = Ranking(["a", "b", "c"], [-10.0, -10.0005, -30.0])
    assert difference(ours, Ranking(["b", "a", "c"], [-10.0, -10.0005, -30.0])) is None
    assert difference(ours, Ranking(["a", "b", "d"], [-10.0, -10.0005, -30.001])) is None


@pytest.mark.parametrize(
    ("theirs", "problem"),
    [
        (Ranking(["a", "b"], [-10, -20]), "3 items against 2"),
        (Ranking(["a", "b", "c"], [-10, -20.01, -30]), "place 2: score -20 against -20.01"),
        (Ranking(["b", "a", "c"], [-10, -20, -30]), "place 1: item a against b"),
        (Ranking(["a", "x", "c"], [-10, -20, -30]), "place 2: item b against x"),
        (Ranking(["a", "b", "c"], [-10, float("nan"), -30]), "place 2: score"),
    ],
)
def test_differences_are_named(theirs: Ranking, problem: str) -> None:
    assert problem in (difference(Ranking(["a", "b", "c"], [-10, -20, -30]), theirs) or "")


def test_a_rehearsal_asks_the_longest_histories_and_a_spread(tmp_path: Path) -> None:
    features = _features(tmp_path, {f"U{n}": 30 if n == 77 else n % 4 for n in range(500)})
    users = sample_users(features, 40)
    assert len(users) == len(set(users)) == 40
    assert users[0] == "U77"
    assert users == sample_users(features, 40)
    assert len({int(user[1:]) // 100 for user in users}) == 5
    assert len(sample_users(features, 10_000)) == 500
    with pytest.raises(TesserecError, match="no user histories"):
        sample_users(_features(tmp_path, {}), 10)


def _features(workdir: Path, lengths: dict[str, int]) -> Artifact:
    def make(folder: Path) -> None:
        (folder / "user_history").mkdir()
        rows = {
            "user_id": pa.array(lengths, pa.string()),
            "item_ids": pa.array([["i"] * n for n in lengths.values()], pa.list_(pa.string())),
        }
        pq.write_table(pa.table(rows), folder / "user_history" / "part-0.parquet")

    return build(
        workdir, "features", params={"users": len(lengths)}, parents=(), version=1, make=make
    )[0]
