"""Items with two codes: their probabilities are added, wherever a block of items begins."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tesserec.decoders import make
from tesserec.decoders.aliases import AliasScorer
from tesserec.decoders.exhaustive import Exhaustive
from tesserec.models.rpg import RPG, Shape

DIGITS, SIZE = 3, 5


@st.composite
def tables(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Codes [N, m], rows [a] and their other codes [a, m]."""
    items = draw(st.integers(1, 40))
    rng = np.random.default_rng(draw(st.integers(0, 2**31)))
    rows = np.flatnonzero(rng.random(items) < draw(st.sampled_from([0.0, 0.1, 0.5, 1.0])))
    codes, other = (rng.integers(0, SIZE, (n, DIGITS)).astype(np.uint8) for n in (items, len(rows)))
    return codes, rows, other


def state_of(users: int, seed: int) -> torch.Tensor:
    """Log-probabilities [B, m, K]."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(users, DIGITS, SIZE, generator=generator).mul(3).log_softmax(-1)


def brute(state: torch.Tensor, codes: np.ndarray) -> np.ndarray:
    """float64 [N, B]"""
    table = state.double().numpy()
    return np.array([[sum(u[j, c[j]] for j in range(DIGITS)) for u in table] for c in codes])


@settings(max_examples=60, deadline=None)
@given(tables(), st.integers(1, 3), st.data())
def test_as_brute_force(
    table: tuple[np.ndarray, np.ndarray, np.ndarray], users: int, data: st.DataObject
) -> None:
    codes, rows, other = table
    state = state_of(users, len(codes))
    wanted = brute(state, codes)
    if len(rows):
        wanted[rows] = np.logaddexp(wanted[rows], brute(state, other))
    scorer = AliasScorer(codes, SIZE, rows, other)
    assert scorer.items == len(codes)
    start = data.draw(st.integers(0, len(codes) - 1))
    stop = data.draw(st.integers(start + 1, len(codes)))
    found = scorer.scores(state, start, stop)
    np.testing.assert_allclose(found.numpy(), wanted[start:stop], rtol=1e-5, atol=1e-5)


def test_a_model_with_aliases_ranks_by_both_codes() -> None:
    rng = np.random.default_rng(1)
    codes = rng.integers(0, SIZE, (30, DIGITS)).astype(np.uint8)
    model = RPG(Shape(digits=DIGITS, codebook_size=SIZE, dim=16, layers=1, ffn=16), codes, seed=1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=torch.Generator()) * 0.3)
    model.eval()
    model.freeze()
    rows = np.arange(5, 15)
    aliases = {"rows": rows, "codes": codes[rows + 10]}
    state = model.state([np.array([1, 2, 3]), np.array([29])])
    plain, both = (make("auto", model, codes, aliases=a) for a in (None, aliases))
    assert isinstance(both, Exhaustive)
    before, after = (d.rank(state, 30) for d in (plain, both))
    for user in range(2):
        was, now = (
            dict(zip(r[user].tolist(), s[user].tolist(), strict=True)) for r, s in (before, after)
        )
        for row in range(30):
            wanted = was[row]
            if row in rows:
                wanted = np.logaddexp(was[row], was[row + 10])
            assert np.isclose(now[row], wanted, atol=1e-4)


def test_no_aliases_left_are_none() -> None:
    codes = np.zeros((4, DIGITS), np.uint8)
    model = RPG(Shape(digits=DIGITS, codebook_size=SIZE, dim=16, layers=1, ffn=16), codes, seed=1)
    nothing = {"rows": np.empty(0, np.int64), "codes": codes[:0]}
    assert type(make("auto", model, codes, aliases=nothing)) is type(make("auto", model, codes))
