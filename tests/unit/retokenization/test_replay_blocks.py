"""Blocks of the past: what was known when, ages, cases; the future changes nothing before it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from tesserec.data.make import generate
from tesserec.data.schemas import INTERACTIONS, ITEMS
from tesserec.errors import DataError, UsageError
from tesserec.evaluation.content_knn import ContentKNN
from tesserec.retokenization.replay import BASELINES, plan
from tesserec.retokenization.replay_blocks import AGES, Timeline, cut, edges_of
from tesserec.retokenization.replay_scores import places


def tables(
    events: list[tuple[str, str, int]], items: str = "abcdefgh"
) -> tuple[pa.Table, pa.Table]:
    count: dict[str, int] = {}
    rows: list[dict[str, Any]] = []
    for user, item, at in events:
        count[user] = count.get(user, -1) + 1
        rows.append(
            {
                "user_id": user,
                "item_id": item,
                "timestamp": at,
                "position": count[user],
                "event_type": "view",
            }
        )
    catalogue = [{name: None for name in ITEMS.names} | {"item_id": i} for i in items]
    return pa.Table.from_pylist(rows, INTERACTIONS), pa.Table.from_pylist(catalogue, ITEMS)


EVENTS = [
    ("u", "c", 1), ("u", "a", 2), ("u", "d", 20), ("u", "e", 31),
    ("v", "a", 3), ("v", "c", 15), ("v", "f", 32),
    ("w", "e", 30),
]  # fmt: skip
EDGES = [10, 25, 40]  # the base and two updates


def small() -> Timeline:
    return cut(*tables(EVENTS), EDGES)


def test_items_enter_with_their_first_event_and_those_without_are_left_out() -> None:
    found = small()
    assert found.item_ids == ["c", "a", "d", "e", "f"]
    assert found.entered.tolist() == [1, 2, 20, 30, 32]
    assert [found.known(b) for b in range(3)] == [2, 3, 5]
    assert [s.tolist() for s in found.sequences(0)] == [[0, 1], [1], []]
    assert [s.tolist() for s in found.sequences(2)] == [[0, 1, 2, 3], [1, 0, 4], [3]]
    assert found.ends(-1) == [0, 0, 0] and found.ends(1) == [3, 2, 0]


def test_age_is_seen_from_the_block_that_tests() -> None:
    found = small()
    assert [AGES[i] for i in found.age(1)] == ["base", "base", "new"]
    assert [AGES[i] for i in found.age(2)] == ["base", "base", "last", "new", "new"]
    three = cut(*tables(EVENTS), [10, 25, 31, 40])
    assert [AGES[i] for i in three.age(3)] == ["base", "base", "update", "last", "new"]


def test_cases_are_events_of_the_block_with_all_that_was_before() -> None:
    asked = small().asked(2, 100, seed=1)
    assert [h.tolist() for h in asked.histories] == [[0, 1, 2], [1, 0]]  # w has no history
    assert asked.targets.tolist() == [3, 4]
    assert small().asked(1, 100, seed=1, new=True).targets.tolist() == [2]
    assert len(small().asked(2, 1, seed=1)) == 1


def test_drawn_cases_depend_on_seed_and_block_alone() -> None:
    found = of_shop()
    first, again, other = (found.asked(2, 50, seed) for seed in (1, 1, 2))
    assert first.targets.tolist() == again.targets.tolist() != other.targets.tolist()
    assert len(first) == 50


def of_shop(extra: list[dict[str, Any]] | None = None) -> Timeline:
    events, items = generate(100, 60, seed=1)
    events = events.append_column("event_type", pa.array(["view"] * events.num_rows))
    rows = events.select(INTERACTIONS.names).cast(INTERACTIONS)
    edges = edges_of(rows["timestamp"].to_numpy(), 4)
    new = pa.table({"item_id": ["future"], "title": ["Brand new"]})
    items = pa.concat_tables([new, items], promote_options="default")
    return cut(
        pa.concat_tables([rows, pa.Table.from_pylist(extra or [], INTERACTIONS)]), items, edges
    )


def test_base_and_updates_are_equal_shares_of_events() -> None:
    found = of_shop()
    events = sum(len(t) for t in found.times)
    sizes = [sum(found.ends(b)) for b in range(5)]
    assert sizes[-1] == events
    shares = np.diff([0, *sizes]) / events
    assert shares == pytest.approx([0.6, 0.1, 0.1, 0.1, 0.1], abs=0.02)


def test_future_events_and_items_change_nothing_before_them() -> None:
    """An item of the source that nobody had until block 3, a new user, and a late event."""
    plain = of_shop()
    at = int(plain.edges[2]) + 1
    late = {"position": 900, "event_type": "view", "timestamp": at}
    more = of_shop(
        [
            {**late, "user_id": "U000001", "item_id": "future"},
            {**late, "user_id": "A first user", "item_id": plain.item_ids[0]},
        ]
    )
    assert more.known(3) == plain.known(3) + 1
    for block in range(3):
        known = plain.known(block)
        assert more.known(block) == known
        assert more.items.slice(0, known) == plain.items.slice(0, known)
        before = [s.tolist() for s in plain.sequences(block) if len(s)]
        assert [s.tolist() for s in more.sequences(block) if len(s)] == before


def test_edges_need_different_times() -> None:
    with pytest.raises(DataError, match="too few different times"):
        edges_of(np.array([1, 1, 1, 2]), 4)


def test_the_plan_has_each_policy_with_each_update_and_retrain_once() -> None:
    cells = plan(3, ("frozen", "retrain"), ("none", "tune"))
    assert [(c.block, c.policy, c.update) for c in cells if c.policy not in BASELINES] == [
        (0, "base", "retrain"),
        (1, "frozen", "none"),
        (1, "frozen", "tune"),
        (1, "retrain", "retrain"),
        (2, "frozen", "none"),
        (2, "frozen", "tune"),
        (2, "retrain", "retrain"),
    ]
    with pytest.raises(UsageError, match="no policy 'cold'"):
        plan(3, ("cold",), ("none",))
    with pytest.raises(UsageError, match="no update 'daily'"):
        plan(3, ("frozen",), ("daily",))


def test_places_of_targets_in_a_shown_list() -> None:
    shown = np.array([[4, 2, 9], [1, 0, -1]])
    assert places(shown, np.array([9, 7])).tolist() == [3, 0]


def test_content_neighbours_rank_by_cosine_among_those_allowed() -> None:
    vectors = np.array([[1, 0], [0, 2], [3, 0.1], [1, 1]], dtype=np.float32)
    ranker = ContentKNN(vectors, last=1)
    history = [np.array([1, 0])]  # only the last counts
    kept, dropped = ranker.target_ranks(history, np.array([2]))
    assert (kept.tolist(), dropped.tolist()) == ([2], [1])  # item 0 itself is nearest
    among = np.array([False, True, False, True])
    assert ranker.target_ranks(history, np.array([3]), among)[0].tolist() == [1]
