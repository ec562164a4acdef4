"""The exact decoder against brute force on small catalogues, with rules, ties and block edges."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tesserec.decoders import exhaustive, make, quotas, ranking
from tesserec.decoders.constraints import Constraints, pack_bits, unpack_bits
from tesserec.decoders.exhaustive import Exhaustive
from tesserec.decoders.ranking import top_k
from tesserec.decoders.scorers import CodeScorer, VectorScorer
from tesserec.errors import TesserecError
from tesserec.models.rpg import RPG, Shape
from tests.fakes.brute import chosen_by_hand, tie_key

CODES = 4


@st.composite
def cases(draw: st.DrawFn) -> tuple[np.ndarray, torch.Tensor, int, Constraints, int]:
    """A catalogue, integer log-probabilities (so that ties abound and sums are exact), k, rules."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    items, digits = draw(st.integers(1, 30)), draw(st.integers(1, 4))
    users = draw(st.integers(1, 5))
    codes = rng.integers(0, CODES, (items, digits)).astype(np.uint8)
    state = torch.from_numpy(-rng.integers(0, 4, (users, digits, CODES)).astype(np.float32))

    def rows() -> np.ndarray:
        return rng.integers(0, items, rng.integers(0, items + 1))

    def some_rows() -> list[np.ndarray | None]:
        return [rows() if rng.random() < 0.7 else None for _ in range(users)]

    rules = Constraints(
        allowed=pack_bits(rng.random(items) < 0.7) if draw(st.booleans()) else None,
        deny=some_rows() if draw(st.booleans()) else None,
        allow=some_rows() if draw(st.booleans()) else None,
        quota=(pack_bits(rng.random(items) < 0.3), int(rng.integers(0, 5)))
        if draw(st.booleans())
        else None,
        cap=(rng.integers(-1, 4, items).astype(np.int32), int(rng.integers(1, 4)))
        if draw(st.booleans())
        else None,
        seeds=[int(rng.integers(0, 2**31)) if rng.random() < 0.7 else None for _ in range(users)]
        if draw(st.booleans())
        else None,
    )
    return codes, state, draw(st.integers(1, 12)), rules, draw(st.sampled_from([4, 7, 64]))


def scores_of(codes: np.ndarray, state: torch.Tensor) -> np.ndarray:
    table = state.numpy()
    return np.stack([[sum(t[j, c] for j, c in enumerate(item)) for item in codes] for t in table])


def candidates(scores: np.ndarray, user: int, rules: Constraints) -> list[int]:
    """Allowed rows, best first."""
    n = scores.shape[1]
    allowed = np.ones(n, dtype=bool) if rules.allowed is None else unpack_bits(rules.allowed, 0, n)
    deny = rules.deny[user] if rules.deny is not None else None
    allow = rules.allow[user] if rules.allow is not None else None
    open_rows = [
        row
        for row in range(n)
        if allowed[row] and (deny is None or row not in deny) and (allow is None or row in allow)
    ]
    seed = rules.seeds[user] if rules.seeds is not None else None
    return sorted(open_rows, key=lambda row: (-scores[user, row], tie_key(seed, row)))


def brute_force(scores: np.ndarray, user: int, k: int, rules: Constraints) -> list[int]:
    order = candidates(scores, user, rules)
    member, need = None, 0
    if rules.quota is not None:
        member, need = unpack_bits(rules.quota[0], 0, scores.shape[1]), rules.quota[1]
    return chosen_by_hand(order, k, member, need, *(rules.cap or (None, 0)))


@settings(max_examples=300, deadline=None)
@given(cases())
def test_rank_is_brute_force(
    case: tuple[np.ndarray, torch.Tensor, int, Constraints, int],
) -> None:
    codes, state, k, rules, block = case
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(exhaustive, "ITEM_BLOCK", block)
        patch.setattr(quotas, "LONGER", 2)  # lists that are too short at first
        for module in (exhaustive, ranking):
            patch.setattr(module, "USER_BLOCK", 2)
        rows, scores = Exhaustive(CodeScorer(codes, CODES)).rank(state, k, rules)
    truth = scores_of(codes, state)
    assert rows.shape == scores.shape == (len(state), k)
    for user in range(len(state)):
        expected = brute_force(truth, user, k, rules)
        assert rows[user].tolist() == expected + [-1] * (k - len(expected))
        assert scores[user, : len(expected)].tolist() == truth[user, expected].tolist()
        assert np.isneginf(scores[user, len(expected) :]).all()


def test_a_cap_that_cannot_be_filled_needs_no_list_of_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """20,000 items in 10 groups, one of each: asked for the best 100, 10 come."""
    rng = np.random.default_rng(5)
    group = rng.integers(0, 10, 20_000).astype(np.int32)
    group[rng.integers(0, 20_000, 3)] = 10  # a rare one
    codes = rng.integers(0, CODES, (20_000, 6)).astype(np.uint8)
    state = torch.from_numpy(-rng.random((2, 6, CODES)).astype(np.float32))
    decoder, asked = Exhaustive(CodeScorer(codes, CODES)), []
    real = decoder._top

    def top(state: torch.Tensor, k: int, *rest: Any) -> Any:
        asked.append(k)
        return real(state, k, *rest)

    monkeypatch.setattr(decoder, "_top", top)
    rows, _ = decoder.rank(state, 100, Constraints(cap=(group, 1)))
    order, _ = real(state, 20_000, Constraints(), None)
    for user in range(2):
        expected = chosen_by_hand(order[user].tolist(), 100, group=group, cap=1)
        assert len(expected) == 11
        assert rows[user].tolist() == expected + [-1] * 89
    assert max(asked) <= 1600


@settings(max_examples=100, deadline=None)
@given(cases())
def test_target_ranks_are_places_in_the_ranking(
    case: tuple[np.ndarray, torch.Tensor, int, Constraints, int],
) -> None:
    codes, state, _, _, block = case
    users, items = len(state), len(codes)
    rng = np.random.default_rng(len(codes))
    targets = rng.integers(-1, items, users)
    seen = [np.unique(rng.integers(0, items, rng.integers(0, items + 1))) for _ in range(users)]
    decoder = Exhaustive(CodeScorer(codes, CODES))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(exhaustive, "ITEM_BLOCK", block)
        for module in (exhaustive, ranking):
            patch.setattr(module, "USER_BLOCK", 2)
        kept, dropped = decoder.target_ranks(state, targets, seen)
    everything = decoder.rank(state, items)[0]
    unseen = decoder.rank(state, items, Constraints(deny=seen))[0]
    for user, target in enumerate(targets.tolist()):
        for rank, order in ((kept[user], everything[user]), (dropped[user], unseen[user])):
            place = np.flatnonzero(order == target) if target >= 0 else np.empty(0)
            assert rank == (place[0] + 1 if len(place) else 0)


@given(st.integers(1, 12), st.integers(0, 2**32 - 1))
def test_top_k_takes_the_lower_place_among_equals(k: int, seed: int) -> None:
    scores = torch.from_numpy(np.random.default_rng(seed).integers(0, 4, (3, 20)).astype("float32"))
    best, order = top_k(scores, k)
    for line in range(3):
        expected = sorted(range(20), key=lambda i: (-float(scores[line, i]), i))[:k]
        assert order[line].tolist() == expected
        assert best[line].tolist() == scores[line, expected].tolist()


def test_duplicate_codes_tie_by_row() -> None:
    codes = np.array([[1, 2], [0, 0], [1, 2], [1, 2]], dtype=np.uint8)
    state = torch.log_softmax(
        torch.randn(1, 2, CODES, generator=torch.Generator().manual_seed(1)), -1
    )
    state[0, :, 1:3] += 9
    rows, scores = Exhaustive(CodeScorer(codes, CODES)).rank(state, 3)
    assert rows.tolist() == [[0, 2, 3]]
    assert scores[0, 0] == scores[0, 1] == scores[0, 2]


def test_scores_are_sums_of_log_probabilities() -> None:
    rng = np.random.default_rng(2)
    codes = rng.integers(0, 256, (500, 32)).astype(np.uint8)
    state = torch.log_softmax(
        torch.from_numpy(rng.normal(size=(70, 32, 256)).astype("float32")), -1
    )
    rows, scores = Exhaustive(CodeScorer(codes, 256)).rank(state, 500)
    exact = state.double().numpy()[:, np.arange(32), codes].sum(-1)  # [70, 500]
    np.testing.assert_allclose(scores, np.take_along_axis(exact, rows, 1), rtol=1e-5)
    targets = rng.integers(0, 500, 70)
    kept, _ = Exhaustive(CodeScorer(codes, 256)).target_ranks(
        state, targets, [np.array([], dtype=int)] * 70
    )
    assert (rows[np.arange(70), kept - 1] == targets).all()


@pytest.mark.parametrize(
    ("rules", "part"),
    [
        (Constraints(allowed=np.zeros(9, dtype=np.uint8)), "allowed"),
        (Constraints(quota=(np.zeros(1, dtype=np.int64), 1)), "quota"),
        (Constraints(deny=[None]), "deny"),
        (Constraints(allow=[None] * 3), "allow"),
        (Constraints(cap=(np.zeros(3, dtype=np.int32), 1)), "cap"),
    ],
)
def test_rules_of_another_size_are_refused(rules: Constraints, part: str) -> None:
    decoder = Exhaustive(CodeScorer(np.zeros((5, 2), dtype=np.uint8), CODES))
    with pytest.raises(TesserecError, match=part):
        decoder.rank(torch.zeros(2, 2, CODES), 1, rules)


def test_bad_states_and_k_are_refused() -> None:
    decoder = Exhaustive(CodeScorer(np.zeros((5, 2), dtype=np.uint8), CODES))
    with pytest.raises(TesserecError, match="not finite"):
        decoder.rank(torch.full((1, 2, CODES), torch.nan), 1)
    with pytest.raises(TesserecError, match="k is 0"):
        decoder.rank(torch.zeros(1, 2, CODES), 0)


def test_one_item_and_no_users() -> None:
    decoder = Exhaustive(CodeScorer(np.zeros((1, 2), dtype=np.uint8), CODES))
    assert decoder.rank(torch.zeros(1, 2, CODES), 3)[0].tolist() == [[0, -1, -1]]
    assert decoder.rank(torch.zeros(0, 2, CODES), 3)[0].shape == (0, 3)


class Pair:
    """Two code scorers whose sum counts; its state is a tuple, as a fusion's is."""

    def __init__(self, codes: np.ndarray) -> None:
        self.items, self._parts = len(codes), [CodeScorer(codes, CODES)] * 2

    def scores(self, state: tuple[torch.Tensor, ...], start: int, stop: int) -> torch.Tensor:
        first, second = (p.scores(s, start, stop) for p, s in zip(self._parts, state, strict=True))
        return first + second

    def take(self, state: tuple[torch.Tensor, ...], users: list[int]) -> tuple[torch.Tensor, ...]:
        return tuple(part[users] for part in state)


@settings(max_examples=50, deadline=None)
@given(cases())
def test_a_state_of_several_parts_is_cut_by_users(
    case: tuple[np.ndarray, torch.Tensor, int, Constraints, int],
) -> None:
    codes, state, k, rules, block = case
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(exhaustive, "ITEM_BLOCK", block)
        for module in (exhaustive, ranking):
            patch.setattr(module, "USER_BLOCK", 2)
        pair = Exhaustive(Pair(codes))
        rows, scores = pair.rank((state, state), k, rules)
        alone = Exhaustive(CodeScorer(codes, CODES))
        expected, half = alone.rank(state, k, rules)
        targets, seen = expected[:, 0], [np.array([0])] * len(state)
        ranks = pair.target_ranks((state, state), targets, seen)
        np.testing.assert_array_equal(ranks, alone.target_ranks(state, targets, seen))
    assert rows.tolist() == expected.tolist()
    np.testing.assert_array_equal(scores, 2 * half)


def test_vectors_score_by_inner_product_whoever_else_asks() -> None:
    generator = torch.Generator().manual_seed(3)
    vectors = torch.randn(3000, 48, generator=generator)
    bias = torch.randn(3000, generator=generator)
    state = torch.randn(70, 48, generator=generator)
    decoder = Exhaustive(VectorScorer(vectors, bias))
    rows, scores = decoder.rank(state, 20)
    exact = (state.double() @ vectors.double().t() + bias).numpy()
    np.testing.assert_allclose(scores, np.take_along_axis(exact, rows, 1), rtol=1e-4)
    np.testing.assert_allclose(scores, -np.sort(-exact, axis=1)[:, :20], rtol=1e-4)
    for user in (0, 17, 69):
        alone = decoder.rank(state[user : user + 1], 20)
        assert alone[0].tolist() == [rows[user].tolist()]
        assert alone[1].tolist() == [scores[user].tolist()]


def test_vectors_are_multiplied_in_float32_under_autocast_too() -> None:
    generator = torch.Generator().manual_seed(3)
    decoder = Exhaustive(VectorScorer(torch.randn(500, 48, generator=generator)))
    state = torch.randn(5, 48, generator=generator)
    rows, scores = decoder.rank(state, 50)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = decoder.rank(state, 50)
    assert found[0].tolist() == rows.tolist() and found[1].tolist() == scores.tolist()


def test_a_bias_for_each_vector_is_needed() -> None:
    with pytest.raises(TesserecError, match="2 biases for 3 vectors"):
        VectorScorer(torch.zeros(3, 2), torch.zeros(2))


def test_decoders_by_name() -> None:
    codes = np.zeros((5, 2), dtype=np.uint8)
    model = RPG(Shape(digits=2, codebook_size=CODES, dim=8, layers=1, heads=1, ffn=8), codes)
    assert isinstance(make("exhaustive", model, codes), Exhaustive)
    with pytest.raises(TesserecError, match="no decoder 'fast'; choose one of auto, exhaustive"):
        make("fast", model, codes)
