"""The graph decoder: its graph against brute force, its walk against the exact decoder."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

from tesserec.decoders import make, making
from tesserec.decoders.constraints import Constraints, pack_bits, unpack_bits
from tesserec.decoders.exhaustive import Exhaustive
from tesserec.decoders.graph import GraphDecoder
from tesserec.decoders.graph_build import Similarity, build_edges, edges_of, insert_edges
from tesserec.decoders.graph_files import GRAPH
from tesserec.decoders.scorers import CodeScorer
from tesserec.errors import ArtifactError, TesserecError, UsageError

K = 8


class Model(torch.nn.Module):
    """What the decoder reads of a model: its tokens and its shape."""

    def __init__(self, digits: int = 4, codes: int = K, seed: int = 0) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.tokens = torch.nn.Parameter(torch.randn(digits, codes, 6, generator=generator))
        self.shape = SimpleNamespace(digits=digits, codebook_size=codes)


def catalogue(items: int, seed: int = 1, digits: int = 4, codes: int = K) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, codes, (items, digits)).astype(np.uint8)


def states(users: int, seed: int = 2, digits: int = 4, codes: int = K) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.log_softmax(torch.randn(users, digits, codes, generator=generator), -1)


def exhaustive(codes: np.ndarray) -> Exhaustive:
    return Exhaustive(CodeScorer(codes, K))


def brute_force_edges(codes: np.ndarray, similarity: Similarity, k: int) -> np.ndarray:
    like = np.zeros((len(codes), len(codes)), dtype=np.float32)
    for j in range(codes.shape[1]):
        like += similarity.exact[j][codes[:, j]][:, codes[:, j]]
    order = np.argsort(-like, axis=1, kind="stable")[:, :k]
    return np.pad(order, ((0, 0), (0, k - order.shape[1])), constant_values=-1)


def test_similarity_is_the_mean_of_mapped_cosines() -> None:
    model, codes = Model(), catalogue(40)
    unit = torch.nn.functional.normalize(model.tokens.detach().double(), dim=-1).numpy()
    similarity = Similarity.of(model.tokens)
    like, rounded = np.zeros((40, 40)), np.zeros((40, 40))
    for j in range(4):
        vectors, own = unit[j][codes[:, j]], codes[:, j]
        like += (1 + vectors @ vectors.T) / 2 / 4
        rounded += similarity.exact.min() + similarity.step * similarity.coarse[j][own][:, own]
        np.testing.assert_array_equal(similarity.exact[j], similarity.exact[j].T)
    exact = sum(similarity.exact[j][codes[:, j]][:, codes[:, j]] for j in range(4))
    np.testing.assert_allclose(exact, like, atol=1e-6)
    np.testing.assert_allclose(np.diag(like), 1)
    assert np.abs(rounded - like).max() <= 4 * similarity.step / 2 + 1e-6


@pytest.mark.parametrize("items", [1, 2, 63, 65, 300])
@pytest.mark.parametrize("k", [1, 7, 100])
def test_edges_are_the_most_similar_items(items: int, k: int) -> None:
    similarity, codes = Similarity.of(Model().tokens), catalogue(items)
    edges = build_edges(codes, similarity, k)
    # items of equal codes are equally alike: they go by row
    assert (edges == brute_force_edges(codes, similarity, k)).all()


def test_edges_with_many_digits_and_codes_and_few_kinds_of_items() -> None:
    model = Model(digits=11, codes=300)
    kinds = np.random.default_rng(3).integers(0, 300, (3, 11)).astype(np.uint16)
    codes = kinds[np.arange(2000) % 3]
    edges = build_edges(codes, Similarity.of(model.tokens), 5)
    assert (edges[:3] == np.arange(5) * 3 + np.arange(3)[:, None]).all()
    assert (edges[-1] == edges[1]).all()


def test_edges_do_not_depend_on_threads() -> None:
    similarity, codes = Similarity.of(Model().tokens), catalogue(1500)
    before = torch.get_num_threads()
    try:
        found = []
        for threads in (1, 3):
            torch.set_num_threads(threads)
            found.append(build_edges(codes, similarity, 20))
    finally:
        torch.set_num_threads(before)
    assert (found[0] == found[1]).all()
    assert (edges_of(np.array([7, 1400, 7]), codes, similarity, 20) == found[0][[7, 1400, 7]]).all()


@pytest.mark.parametrize(("old", "new"), [(0, 5), (3, 90), (200, 1), (500, 130), (40, 0)])
def test_insertion_equals_a_new_build(old: int, new: int) -> None:
    model, codes = Model(), catalogue(old + new)
    similarity = Similarity.of(model.tokens)
    grown = insert_edges(build_edges(codes[:old], similarity, 10), codes, similarity)
    assert (grown == build_edges(codes, similarity, 10)).all()


def test_a_complete_graph_is_the_exact_decoder() -> None:
    model, codes, state = Model(), catalogue(120), states(70)
    decoder = GraphDecoder.of(model, codes, edges=120, beam=1, steps=1)
    rows, scores = decoder.rank(state, 15)
    expected, values = exhaustive(codes).rank(state, 15)
    assert (rows == expected).all() and (scores == values).all()
    assert decoder.fallbacks == 0 and decoder.visited == 70 * 120
    rng = np.random.default_rng(4)
    targets = rng.integers(-1, 120, 70)
    seen = [np.unique(rng.integers(0, 120, rng.integers(0, 20))) for _ in range(70)]
    for mine, exact in zip(
        decoder.target_ranks(state, targets, seen),
        exhaustive(codes).target_ranks(state, targets, seen),
        strict=True,
    ):
        assert (mine == exact).all()


def clustered(items: int, digits: int = 16, codes: int = 32) -> tuple[Any, np.ndarray]:
    """Items of 40 kinds that share most digits, and tokens that differ."""
    rng = np.random.default_rng(5)
    kinds = rng.integers(0, codes, (40, digits))
    table = kinds[rng.integers(0, 40, items)]
    mixed = rng.random((items, digits)) < 0.4
    table[mixed] = rng.integers(0, codes, mixed.sum())
    return Model(digits, codes), table.astype(np.uint8)


def recall(mine: np.ndarray, exact: np.ndarray) -> float:
    pairs = zip(mine, exact, strict=True)
    return float(np.mean([len(np.intersect1d(a, b)) / len(b) for a, b in pairs]))


def test_recall_rises_with_beam_and_edges() -> None:
    model, codes = clustered(4000)
    state = states(200, digits=16, codes=32)
    exact = Exhaustive(CodeScorer(codes, 32)).rank(state, 10)[0]
    small = GraphDecoder.of(model, codes, edges=20, beam=10, steps=2)
    large = GraphDecoder.of(model, codes, edges=100, beam=50, steps=3)
    low, high = (recall(d.rank(state, 10)[0], exact) for d in (small, large))
    print(f"recall@10: {low:.3f} at b 10, k 20, q 2; {high:.3f} at b 50, k 100, q 3")
    assert low >= 0.5 and high >= 0.95
    assert small.visited < large.visited


def test_popular_and_own_starts_are_used() -> None:
    model, codes = clustered(4000)
    state = states(50, digits=16, codes=32)
    exact = Exhaustive(CodeScorer(codes, 32)).rank(state, 10)[0]
    popularity = np.zeros(4000)
    popularity[exact.ravel()] = 1
    decoder = GraphDecoder.of(model, codes, edges=2, beam=10, steps=1)
    decoder.start_at(popularity)
    assert recall(decoder.rank(state, 10)[0], exact) == 1.0
    decoder.start_at(1 - popularity)
    own = decoder.rank(state, 10, starts=list(exact))[0]
    assert recall(own, exact) == 1.0 > recall(decoder.rank(state, 10)[0], exact)


def test_rows_that_are_no_items_are_no_starts() -> None:
    model, codes, state = Model(), catalogue(50), states(2)
    decoder = GraphDecoder.of(model, codes, edges=50)
    some = np.array([-1, 50, 3])
    assert (decoder.rank(state, 5, starts=[some, some])[0] == decoder.rank(state, 5)[0]).all()


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 60), st.integers(1, 12), st.integers(1, 40))
def test_rules_hold_and_k_good_items_come_out(seed: int, items: int, k: int, edges: int) -> None:
    rng = np.random.default_rng(seed)
    codes, users = catalogue(items, seed), 3
    state = states(users, seed % 1000)

    def rows() -> list[np.ndarray | None]:
        return [
            rng.integers(0, items, rng.integers(0, items + 1)) if rng.random() < 0.6 else None
            for _ in range(users)
        ]

    rules = Constraints(
        allowed=pack_bits(rng.random(items) < 0.6) if rng.random() < 0.5 else None,
        deny=rows() if rng.random() < 0.6 else None,
        allow=rows() if rng.random() < 0.3 else None,
        quota=(pack_bits(rng.random(items) < 0.4), int(rng.integers(0, 4)))
        if rng.random() < 0.4
        else None,
        cap=(rng.integers(-1, 4, items).astype(np.int32), int(rng.integers(1, 4)))
        if rng.random() < 0.4
        else None,
    )
    decoder = GraphDecoder.of(Model(), codes, edges=edges, beam=2, steps=1)
    found, scores = decoder.rank(state, k, rules)
    exact, _ = exhaustive(codes).rank(state, k, rules)
    assert ((found >= 0).sum(1) == (exact >= 0).sum(1)).all()
    for user in range(users):
        some = found[user][found[user] >= 0]
        assert len(np.unique(some)) == len(some)
        assert (np.diff(scores[user][: len(some)]) <= 0).all()
        for bits in [rules.allowed] if rules.allowed is not None else []:
            assert unpack_bits(bits, 0, items)[some].all()
        for parts, wanted in ((rules.deny, False), (rules.allow, True)):
            listed = parts[user] if parts is not None else None
            assert listed is None or (np.isin(some, listed) == wanted).all()
        if rules.cap is not None:
            groups = rules.cap[0][some]
            assert np.bincount(groups[groups >= 0]).max(initial=0) <= rules.cap[1]
        if rules.quota is not None:
            member = unpack_bits(rules.quota[0], 0, items)
            reached = member[exact[user][exact[user] >= 0]].sum()
            assert member[some].sum() >= min(rules.quota[1], reached)


def test_too_few_found_are_scanned_and_counted() -> None:
    model, codes, state = Model(), catalogue(400), states(4)
    decoder = GraphDecoder.of(model, codes, edges=2, beam=1, steps=1)
    decoder.starts = np.array([0])
    rows, _ = decoder.rank(state, 9)
    assert (rows == exhaustive(codes).rank(state, 9)[0]).all()
    assert decoder.fallbacks == decoder.walks == 4


def test_equal_in_every_batch_and_on_every_run() -> None:
    model, codes = clustered(1000)
    state = states(70, digits=16, codes=32)
    decoder = GraphDecoder.of(model, codes, edges=10, beam=5, steps=2)
    rows, scores = decoder.rank(state, 5)
    for user in range(0, 70, 23):
        alone = decoder.rank(state[user : user + 1], 5)
        assert (alone[0][0] == rows[user]).all() and (alone[1][0] == scores[user]).all()
    again = GraphDecoder.of(model, codes, edges=10, beam=5, steps=2).rank(state, 5)
    assert (again[0] == rows).all() and (again[1] == scores).all()


def test_ranks_are_places_in_the_ranking() -> None:
    model, codes = clustered(1000)
    state = states(60, digits=16, codes=32)
    decoder = GraphDecoder.of(model, codes, edges=20, beam=20, steps=2)
    rows, _ = decoder.rank(state, 20)
    seen = [line[:3] for line in rows]
    kept, dropped = decoder.target_ranks(state, rows[:, 7], seen)
    assert (kept == 8).all() and (dropped == 5).all()
    kept, dropped = decoder.target_ranks(state, rows[:, 1], seen)
    assert (kept == 2).all() and (dropped == 0).all()
    decoder.starts = rows[0, :1]
    decoder.steps = 0
    assert decoder.target_ranks(state[:1], rows[0, 5:6], seen[:1])[0].tolist() == [0]


@pytest.mark.parametrize("items", [0, 1, 3])
def test_small_catalogues(items: int) -> None:
    codes, state = catalogue(items), states(2)
    decoder = GraphDecoder.of(Model(), codes, edges=4)
    rows, scores = decoder.rank(state, 5)
    assert (np.sort(rows, axis=1)[:, 5 - items :] == np.arange(items)).all()
    assert (rows[:, items:] == -1).all() and np.isneginf(scores[:, items:]).all()
    assert decoder.rank(state[:0], 5)[0].shape == (0, 5)


def test_saved_and_loaded(tmp_path: Path) -> None:
    model, codes, state = Model(), catalogue(200), states(5)
    decoder = GraphDecoder.of(model, codes, edges=6, beam=4, steps=2)
    decoder.start_at(np.arange(200))
    first, second = tmp_path / "a", tmp_path / "b"
    for path in (first, second):
        decoder.save(path)
    assert first.read_bytes() == second.read_bytes()
    loaded = GraphDecoder.of(model, codes, beam=4, steps=2, saved=first)
    assert (loaded.rank(state, 4)[0] == decoder.rank(state, 4)[0]).all()
    grown = catalogue(260)
    grown[:200] = codes
    more = GraphDecoder.of(model, grown, saved=first)
    assert (more.edges == GraphDecoder.of(model, grown, edges=6).edges).all()
    assert (more.starts == decoder.starts).all()


@pytest.mark.parametrize("damage", ["missing", "cut", "tensors", "codes", "rows", "tokens"])
def test_damaged_files_are_refused(tmp_path: Path, damage: str) -> None:
    model, codes = Model(), catalogue(50)
    decoder = GraphDecoder.of(model, codes, edges=6)
    decoder.edges[3, 2] = 50 if damage == "rows" else decoder.edges[3, 2]
    graph = tmp_path / GRAPH
    decoder.save(graph)
    if damage == "missing":
        graph.unlink()
    elif damage == "cut":
        graph.write_bytes(graph.read_bytes()[:100])
    elif damage == "tensors":
        save_file({"edges": decoder.edges}, graph)
    elif damage == "codes":
        codes[0, 0] ^= 1
    elif damage == "tokens":
        model = Model(seed=1)
    with pytest.raises(ArtifactError):
        GraphDecoder.of(model, codes, saved=graph)


def test_what_does_not_fit_is_refused() -> None:
    model, codes = Model(), catalogue(50)
    with pytest.raises(ArtifactError, match="digits"):
        GraphDecoder.of(model, codes[:, :3])
    with pytest.raises(ArtifactError, match="digits"):
        GraphDecoder.of(model, codes + np.uint8(1))
    decoder = GraphDecoder.of(model, codes, edges=6)
    with pytest.raises(ArtifactError, match="keep their rows"):
        decoder.insert(model, codes[::-1].copy())
    with pytest.raises(ArtifactError, match="one release"):
        GraphDecoder(codes[:9], decoder.edges, None)
    with pytest.raises(UsageError, match="CPU"):
        decoder.to(torch.device("cuda"))
    with pytest.raises(TesserecError, match="not finite"):
        decoder.rank(torch.full((1, 4, K), torch.nan), 1)
    with pytest.raises(TesserecError, match="k is 0"):
        decoder.rank(states(1), 0)


def test_a_graph_is_bound_to_the_model_it_was_made_for(tmp_path: Path) -> None:
    codes, graph = catalogue(50), tmp_path / GRAPH
    model, other = Model(), Model()
    with torch.no_grad():
        other.tokens[2, 1, 0] += 1e-3
    decoder = GraphDecoder.of(model, codes, edges=6)
    decoder.save(graph)
    with pytest.raises(ArtifactError, match=r"token vectors of another model.* build the release"):
        GraphDecoder.of(other, codes, saved=graph)
    grown = np.concatenate([codes, catalogue(3)])
    decoder.insert(other, grown).save(graph)  # what is inserted goes by the model at hand
    assert GraphDecoder.of(other, grown, saved=graph).items == 53


def test_without_numba_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    making._has.cache_clear()
    monkeypatch.setattr(making, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match="decoder graph needs numba; pip install numba"):
        make("graph", Model(), catalogue(50))
    making._has.cache_clear()


def test_made_by_name() -> None:
    codes = catalogue(50)
    decoder = make("graph", Model(), codes, edges=9, beam=7, steps=1)
    assert isinstance(decoder, GraphDecoder)
    assert decoder.edges.shape == (50, 9) and (decoder.beam, decoder.steps) == (7, 1)
    decoder.warm()
    assert decoder.walks == 0
