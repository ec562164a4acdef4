"""Popularity and item-kNN against dense computations; all rankers follow one protocol."""

from __future__ import annotations

import numpy as np
import pytest

from tesserec.data.splits import Split
from tesserec.evaluation import protocol
from tesserec.evaluation.baselines import ItemKNN, Popularity, ranks_of
from tesserec.evaluation.counts import training_counts
from tesserec.recommender import seen_rows

ITEMS = 25


@pytest.fixture
def sequences() -> list[np.ndarray]:
    rng = np.random.default_rng(4)
    return [rng.integers(0, ITEMS, n) for n in rng.integers(0, 12, 60)]


def by_sorting(scores: np.ndarray, target: int, hidden: np.ndarray) -> int:
    order = [i for i in sorted(range(ITEMS), key=lambda i: (-scores[i], i)) if i not in hidden]
    return order.index(target) + 1 if target in order else 0


def asked(sequences: list[np.ndarray]) -> tuple[list[np.ndarray], np.ndarray]:
    targets = np.random.default_rng(6).integers(-1, ITEMS, len(sequences))
    return sequences, targets


def test_popularity(sequences: list[np.ndarray]) -> None:
    histories, targets = asked(sequences)
    kept, dropped = Popularity(sequences, ITEMS).target_ranks(histories, targets)
    counts = training_counts(sequences, ITEMS)
    nothing = np.array([], dtype=int)
    for line, (history, target) in enumerate(zip(histories, targets.tolist(), strict=True)):
        assert kept[line] == by_sorting(counts, target, nothing)
        assert dropped[line] == by_sorting(counts, target, history)


def test_item_knn_is_shrunk_cosine_of_the_seen_items(sequences: list[np.ndarray]) -> None:
    histories, targets = asked(sequences)
    users = np.zeros((len(sequences), ITEMS))
    for user, sequence in enumerate(sequences):
        users[user, sequence] = 1
    common = users.T @ users
    norm = np.sqrt(np.diag(common))
    similar = common / (np.outer(norm, norm) + 5.0)
    np.fill_diagonal(similar, 0)
    counts = training_counts(sequences, ITEMS)
    dense = np.stack([similar[np.unique(h)].sum(0) for h in histories])
    dense += 1e-6 * counts / (counts.max() + 1)
    model = ItemKNN(sequences, ITEMS)
    np.testing.assert_allclose(model._scores([np.unique(h) for h in histories]), dense, rtol=1e-5)
    kept, dropped = model.target_ranks(histories, targets)
    scores = model._scores([seen_rows(h) for h in histories])
    nothing = np.array([], dtype=int)
    for line, (history, target) in enumerate(zip(histories, targets.tolist(), strict=True)):
        assert kept[line] == by_sorting(scores[line], target, nothing)
        assert dropped[line] == by_sorting(scores[line], target, history)


def test_only_the_nearest_neighbours_are_kept(sequences: list[np.ndarray]) -> None:
    full, cut = ItemKNN(sequences, ITEMS), ItemKNN(sequences, ITEMS, neighbours=3)
    for row in range(ITEMS):
        before = np.sort(full._similar[row].data)[::-1]
        assert np.sort(cut._similar[row].data)[::-1].tolist() == before[:3].tolist()


def test_ranks_of_with_ties() -> None:
    scores = np.array([[1.0, 2.0, 2.0, 0.0]])
    for target, rank in enumerate([3, 1, 2, 4]):
        kept, dropped = ranks_of(scores, np.array([target]), [np.array([1])])
        assert kept.tolist() == [rank]
        assert dropped.tolist() == [0 if target == 1 else rank - 1]


def test_seen_rows_are_the_most_recent_distinct() -> None:
    assert seen_rows(np.array([5, 1, 5, 2])).tolist() == [2, 5, 1]
    assert seen_rows(np.array([5, 1, 5, 2]), limit=2).tolist() == [2, 5]
    assert seen_rows(np.array([], dtype=np.int64)).tolist() == []


def make_split() -> Split:
    items = [["a", "b", "c", "d"], ["b", "zz", "a", "c"], ["c"]]
    return Split(
        ["u0", "u1", "u2"],
        items,
        np.array([2, 2, 1]),
        np.array([2, 2, -1]),
        np.array([3, 3, -1]),
    )


def test_cases_and_training_sequences() -> None:
    row_of = {"a": 0, "b": 1, "c": 2}  # d and zz are not in the catalogue
    sequences = protocol.training_sequences(make_split(), row_of)
    assert [s.tolist() for s in sequences] == [[0, 1], [1], [2]]
    frequency = training_counts(sequences, 3)
    test = protocol.cases(make_split(), row_of, frequency)
    assert test.users == ["u0", "u1"]
    assert [h.tolist() for h in test.histories] == [[0, 1, 2], [1, 0]]
    assert test.targets.tolist() == [-1, 2]
    assert test.frequency.tolist() == [0, 1]
    valid = protocol.cases(make_split(), row_of, frequency, part="valid", users=1, seed=0)
    assert len(valid) == 1
    assert valid.targets.tolist() in ([2], [0])


def test_evaluate_has_the_keys_of_the_command() -> None:
    rng = np.random.default_rng(1)
    users = 40
    case = protocol.Cases(
        [str(i) for i in range(users)],
        [np.array([1])] * users,
        np.zeros(users, dtype=int),
        rng.integers(0, 30, users),
    )
    ours = protocol.Ranks(rng.integers(1, 5, users), rng.integers(1, 5, users))
    theirs = protocol.Ranks(rng.integers(5, 60, users), rng.integers(5, 60, users))
    table = protocol.evaluate(case, ours, {"popularity": theirs}, resamples=100, seed=1)
    assert set(table) == {"users", "kept", "dropped", "slices", "baselines", "paired"}
    low, high = table["kept"]["ndcg@10_ci"]
    assert low <= table["kept"]["ndcg@10"] <= high
    assert table["paired"]["popularity"]["kept"]["ci"][0] > 0
    assert sum(s["users"] for s in table["slices"]) == users
    assert set(table["baselines"]["popularity"]) == {"kept", "dropped"}
