from __future__ import annotations

import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tesserec.data.make import generate, make_shop
from tesserec.data.shop import START, YEAR
from tesserec.data.shop_words import DEPARTMENTS
from tesserec.errors import UsageError


def test_the_same_seed_gives_the_same_bytes(tmp_path: Path) -> None:
    first = make_shop(tmp_path / "a", 200, 300, seed=3)
    again = make_shop(tmp_path / "b", 200, 300, seed=3)
    other = make_shop(tmp_path / "c", 200, 300, seed=4)
    assert first["sha256"] == again["sha256"] != other["sha256"]
    assert {**first, "path": ""} == {**again, "path": ""}
    assert first["users"] == 200 and first["items"] == 300
    assert first["interactions"] == pq.read_metadata(tmp_path / "a/interactions.parquet").num_rows
    assert first["bytes"] == sum(p.stat().st_size for p in (tmp_path / "a").iterdir())


def test_the_shop_keeps_its_own_rules() -> None:
    interactions, items = generate(1000, 600, seed=1)
    ids = items["item_id"].to_pylist()
    assert len(set(ids)) == 600 and ids != sorted(ids)
    listed = dict(zip(ids, items["listed_at"].to_pylist(), strict=True))
    users: dict[str, list[tuple[int, int]]] = defaultdict(list)
    for row in interactions.to_pylist():
        assert listed[row["item_id"]] <= row["timestamp"]
        users[row["user_id"]].append((row["timestamp"], row["position"]))
    assert len(users) == 1000
    for events in users.values():
        assert events == sorted(events) and [p for _, p in events] == list(range(len(events)))
        assert events[0][0] >= START and events[-1][0] < START + YEAR
    lengths = [len(events) for events in users.values()]
    assert min(lengths) >= 5 and max(lengths) > 50  # histories longer than any model keeps
    assert np.mean(np.array(list(listed.values())) > START) > 0.2  # new items all the year
    assert (np.diff(interactions["timestamp"].to_numpy()) == 0).mean() > 0.02  # baskets: ties


def test_novel_categories_open_late_and_the_others_stay() -> None:
    interactions, items = generate(1000, 600, seed=1, novel=0.2)
    opened: dict[str, int] = {}
    for row in items.select(["categories", "listed_at"]).to_pylist():
        path = row["categories"][0]
        opened[path] = min(opened.get(path, START + YEAR), row["listed_at"])
    late = [path for path, at in opened.items() if at >= START + 0.6 * YEAR]
    assert len(late) == round(0.2 * len(opened))
    plain = generate(1000, 600, seed=1)[1]
    assert all(at < START + 0.6 * YEAR for path, at in opened.items() if path not in late)
    leaves = [sorted(t["categories"].to_pylist()) for t in (plain, items)]
    assert leaves[0] == leaves[1]  # the same shop, listed at other times
    times = dict(zip(items["item_id"].to_pylist(), items["listed_at"].to_pylist(), strict=True))
    assert all(times[r["item_id"]] <= r["timestamp"] for r in interactions.to_pylist())
    with pytest.raises(UsageError, match="novel is"):
        generate(10, 10, seed=1, novel=0.6)


def test_a_default_shop_is_made_within_three_seconds() -> None:
    began = time.process_time()
    generate(3000, 1200, seed=1)
    assert time.process_time() - began < 3


@pytest.mark.parametrize("items", [8, 50, 3000])
def test_small_and_wide_catalogues_work(items: int) -> None:
    interactions, table = generate(20, items, seed=2)
    assert table.num_rows == items and interactions["item_id"].null_count == 0


def test_reading_the_text_beats_counting_pairs() -> None:
    """The next item follows from leaf and collection in the text better than from item counts."""
    interactions, items = generate(3000, 1200, seed=1)
    titles = {row["item_id"]: i for i, row in enumerate(items.select(["item_id"]).to_pylist())}
    user = interactions["user_id"].to_numpy()
    rows = np.array([titles[item] for item in interactions["item_id"].to_pylist()])
    sequences = np.split(rows, np.flatnonzero(user[1:] != user[:-1]) + 1)
    train = [s[:-2] for s in sequences]
    count = np.bincount(np.concatenate(train), minlength=1200)
    popular = ndcg([rank(count, s[-1]) for s in sequences])
    near = neighbours(train, count)
    knn = ndcg([rank(near[s[:-1]].sum(axis=0), s[-1]) for s in sequences])
    content = ndcg([rank(read(items, s[:-1]), s[-1]) for s in sequences])
    assert popular < 0.06 and popular < knn < 0.2
    assert content > 1.5 * knn and content > 0.25


def read(items: pa.Table, history: np.ndarray, memo: dict[str, Any] = {}) -> np.ndarray:  # noqa: B006
    """Score of every item: is it of the leaf that follows the last one, of the usual look?"""
    if not memo:
        leaves = [leaf for ring in DEPARTMENTS.values() for leaf in ring]
        paths = [row[0].split(" > ")[-1] for row in items["categories"].to_pylist()]
        looks = [
            text.split(" collection")[0].split()[-1] for text in items["description"].to_pylist()
        ]
        memo["leaf"] = np.array([leaves.index(leaf) for leaf in paths])
        memo["look"] = np.unique(looks, return_inverse=True)[1]
    leaf, look = memo["leaf"], memo["look"]
    last = leaf[history[-1]]
    following = last // 8 * 8 + (last + 1) % 8
    usual = np.bincount(look[history[-4:]], minlength=16)[look]
    return 2.0 * (leaf == following) + usual / len(history[-4:])


def neighbours(train: list[np.ndarray], count: np.ndarray) -> np.ndarray:
    seen = np.zeros((len(train), len(count)), np.float32)
    for user, items in enumerate(train):
        seen[user, items] = 1
    norm = np.sqrt(np.maximum(seen.sum(axis=0), 1))
    near = seen.T @ seen / norm / norm[:, None]
    np.fill_diagonal(near, 0)
    return near


def rank(scores: np.ndarray, target: int) -> int:
    return 1 + int((scores > scores[target]).sum()) + int((scores[:target] == scores[target]).sum())


def ndcg(ranks: list[int]) -> float:
    return float(np.mean([1 / np.log2(r + 1) if r <= 10 else 0 for r in ranks]))


def test_dirty_rows_are_spoiled_and_nothing_else(tmp_path: Path) -> None:
    clean, items = generate(300, 200, seed=5)
    dirty, more = generate(300, 200, seed=5, dirty=0.2)
    assert dirty.num_rows == clean.num_rows and more.num_rows > items.num_rows
    pairs = zip(clean.to_pylist(), dirty.to_pylist(), strict=True)
    assert 0.15 < np.mean([a != b for a, b in pairs]) < 0.25


@pytest.mark.parametrize(
    ("arguments", "named"),
    [((0, 100, 1), "0 users"), ((10, 3, 1), "3 items"), ((10, 100, 1, 0.9), "0.9")],
)
def test_impossible_shops_are_refused(arguments: tuple[Any, ...], named: str) -> None:
    with pytest.raises(UsageError, match=named):
        generate(*arguments)
