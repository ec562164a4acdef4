"""When two rankings are equal, and which users a rehearsal asks."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tesserec.artifacts import Artifact, build
from tesserec.errors import TesserecError
from tesserec.release import promoted
from tesserec.serving import rehearsal
from tesserec.serving.handler import Handler
from tesserec.serving.rehearsal import Ranking, difference, sample_users
from tesserec.serving.request import make_request
from tests.fakes.release import FakeReader, FakeRow


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


def test_a_user_with_a_new_event_meanwhile_is_left_out(
    shop: Path, handler: Handler, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Served and offline answers are then of two histories; that says nothing of the release."""
    reads: list[int] = []

    class Reader(FakeReader):
        def read(self, user_ids: Sequence[str]) -> list[FakeRow]:
            reads.append(len(user_ids))
            rows = super().read(user_ids)
            if len(reads) > 1:  # an event of U5 arrived after the server had answered
                rows[0] = FakeRow("U5", [*rows[0].history, "I001"], {*rows[0].seen, "I001"})
            return rows

    class NoServer:
        grpc, seconds_to_ready = "", 1.0

    class Caller:
        def recommend(self, *, user_id: str, k: int) -> Any:
            return handler.recommend([make_request(user_id, k=k)])[0]

    monkeypatch.setattr(rehearsal.triton, "start", lambda *_, **__: nullcontext(NoServer()))
    monkeypatch.setattr(rehearsal, "Recommender", lambda *_, **__: nullcontext(Caller()))
    result = rehearsal.rehearse(
        shop, None, promoted(shop) or "", ["U5", "U6", "U7"], reader=lambda _: Reader()
    )
    assert result["mismatches"] == [] and result["equal"]
    assert result["users"] == 3  # U6, U7 and the unknown one
    with pytest.raises(TesserecError, match="events reached all"):
        reads.clear()
        rehearsal.rehearse(shop, None, promoted(shop) or "", ["U5"], reader=lambda _: Reader())
