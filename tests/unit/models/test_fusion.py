"""Fusion: its scores, totals and fitted weights against plain numpy over the whole catalogue."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tesserec.decoders import make
from tesserec.decoders.constraints import Constraints, pack_bits
from tesserec.errors import ArtifactError, TesserecError
from tesserec.models import fusion, fusion_fit, rpg, sasrec
from tesserec.models.fusion import Blend, Fusion

ITEMS, DIGITS, SIZE = 50, 4, 8
TRAINED = np.arange(ITEMS) % 5 != 0
CODES = np.random.default_rng(1).integers(0, SIZE, (ITEMS, DIGITS)).astype(np.uint8)
BLEND = Blend(temperatures=(2.0, 1.5), bounds=(3,), weights=(0.2, 0.7))


def parts(items: int = ITEMS) -> tuple[Any, Any]:
    torch.set_num_threads(1)
    shape = rpg.Shape(digits=DIGITS, codebook_size=SIZE, dim=16, heads=2, ffn=16, temperature=0.3)
    content = rpg.RPG(shape, CODES[:items], seed=3).eval()
    identity = sasrec.SASRec(sasrec.Shape(items=items, dim=16, ffn=16), TRAINED[:items], seed=2)
    torch.nn.init.normal_(identity.vectors, std=0.5, generator=torch.Generator().manual_seed(4))
    return content, identity.eval()


def histories(count: int = 40, seed: int = 5) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    found = [rng.integers(0, ITEMS, rng.integers(1, 9)) for _ in range(count)]
    return [np.array([0, 5]), *found]  # the first knows no item that identity knows


def by_hand(content: Any, identity: Any, asked: list[np.ndarray], blend: Blend) -> np.ndarray:
    """float64 [B, N]"""
    table = content.state(asked).double().numpy()
    a = table[:, np.arange(DIGITS), CODES].sum(-1) / blend.temperatures[0]
    b = np.full_like(a, -np.inf)
    vectors = identity.vectors.detach().double().numpy()
    b[:, TRAINED] = identity.state(asked).double().numpy() @ vectors.T / blend.temperatures[1]
    a -= np.log(np.exp(a).sum(1, keepdims=True))
    b -= np.log(np.exp(b).sum(1, keepdims=True))
    out = a.copy()
    for user, history in enumerate(asked):
        known = int(TRAINED[history].sum())
        w = blend.weights[int(np.searchsorted(blend.bounds, known, "right"))] if known else 0.0
        out[user, TRAINED] = (1 - w) * a[user, TRAINED] + w * b[user, TRAINED]
    return out


@pytest.mark.parametrize("block", [7, 16_384])
def test_scores_are_those_by_hand(monkeypatch: pytest.MonkeyPatch, block: int) -> None:
    monkeypatch.setattr(fusion, "BLOCK", block)
    content, identity = parts()
    model, asked = Fusion(content, identity, CODES, BLEND), histories()
    scores = model.scorer().scores(model.state(asked), 0, ITEMS).t().numpy()
    np.testing.assert_allclose(scores, by_hand(content, identity, asked, BLEND), rtol=1e-4)


@pytest.mark.parametrize("weight", [0.0, 1.0])
def test_weight_0_ranks_as_content_and_weight_1_as_identity(weight: float) -> None:
    content, identity = parts()
    blend = Blend(temperatures=(2.0, 1.5), bounds=(), weights=(weight,))
    model, asked = Fusion(content, identity, CODES, blend), histories()[1:]
    asked = [h for h in asked if TRAINED[h].any()]
    only = Constraints(allowed=pack_bits(TRAINED))
    ours, _ = make("auto", model, CODES).rank(model.state(asked), 10, only)
    part = content if weight == 0 else identity
    decoder = make("exhaustive", part, CODES if weight == 0 else None)
    theirs, _ = decoder.rank(part.state(asked), 10, only)
    assert np.array_equal(ours, theirs)


def test_a_score_depends_neither_on_company_nor_on_the_block() -> None:
    content, identity = parts()
    model, asked = Fusion(content, identity, CODES, BLEND), histories(70)
    together = make("auto", model, CODES).rank(model.state(asked), ITEMS)
    for user in (0, 3, 70):
        alone = make("auto", model, CODES).rank(model.state([asked[user]]), ITEMS)
        assert np.array_equal(alone[0][0], together[0][user])
        np.testing.assert_allclose(alone[1][0], together[1][user], rtol=1e-5)


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_rank_under_rules_is_that_of_brute_force(data: Any) -> None:
    content, identity = parts()
    model = Fusion(content, identity, CODES, BLEND)
    asked = histories(data.draw(st.integers(0, 3)), data.draw(st.integers(0, 99)))
    rows = st.lists(st.integers(0, ITEMS - 1), max_size=30)
    allowed = np.ones(ITEMS, bool)
    allowed[data.draw(rows)] = False
    deny = [np.array(data.draw(rows), np.int64) for _ in asked]
    cap = np.arange(ITEMS, dtype=np.int32) % 4
    rules = Constraints(allowed=pack_bits(allowed), deny=deny, cap=(cap, 2))
    state, k = model.state(asked), data.draw(st.integers(1, 9))
    found, scores = make("auto", model, CODES).rank(state, k, rules)
    table = model.scorer().scores(state, 0, ITEMS).t().numpy()
    for user in range(len(asked)):
        expected, taken = [], dict.fromkeys(range(4), 0)
        for row in np.argsort(-table[user], kind="stable").tolist():
            free = allowed[row] and row not in deny[user] and taken[row % 4] < 2
            if free and len(expected) < k:
                expected.append(row)
                taken[row % 4] += 1
        assert found[user][found[user] >= 0].tolist() == expected
        assert scores[user][: len(expected)].tolist() == table[user][expected].tolist()


def test_fit_finds_the_part_that_knows() -> None:
    """Targets that identity ranks first for long histories, and content for short ones."""
    content, identity = parts()
    rng = np.random.default_rng(3)
    asked = [rng.choice(np.flatnonzero(TRAINED), n) for n in rng.integers(1, 20, 1500)]
    long = np.array([len(h) >= 8 for h in asked])
    a = make("exhaustive", content, CODES).rank(content.state(asked), 1)[0][:, 0]
    b = make("auto", identity, None).rank(identity.state(asked), 1)[0][:, 0]
    found = fusion_fit.fit(content, identity, CODES, asked, np.where(long, b, a))
    assert found.blend.bounds == fusion_fit.BOUNDS
    short, long_weights = found.blend.weights[:2], found.blend.weights[2:]
    assert max(short) < 0.5 < min(long_weights)
    assert found.users == 1500 and found.ndcg > max(found.curve)
    model = Fusion(content, identity, CODES, found.blend)
    kept, _ = make("auto", model, CODES).target_ranks(
        model.state(asked), np.where(long, b, a), asked
    )
    gain = np.where(kept <= 10, 1 / np.log2(kept + 1), 0).mean()
    assert found.ndcg == pytest.approx(gain, rel=1e-6)


def test_fit_of_one_kind_of_user_takes_one_weight() -> None:
    content, identity = parts()
    asked = [h for h in histories(900)[1:] if TRAINED[h].any()]
    b = make("auto", identity, None).rank(identity.state(asked), 1)[0][:, 0]
    found = fusion_fit.fit(content, identity, CODES, asked, b)
    assert found.blend.bounds == () and found.blend.weights[0] > 0.8
    with pytest.raises(TesserecError, match="no user has a validation target"):
        fusion_fit.fit(content, identity, CODES, asked, np.full(len(asked), -1))


def test_save_and_read(tmp_path: Path) -> None:
    content, identity = parts()
    model = Fusion(content, identity, CODES, BLEND)
    model.save(tmp_path)
    named = {"rpg": content, "sasrec": identity}
    again = Fusion.read(tmp_path / "fusion.json", named, CODES)
    assert again.blend == BLEND
    (tmp_path / "fusion.json").write_text('{"blend": {"weights": 3}}')
    with pytest.raises(ArtifactError, match="no readable blend"):
        Fusion.read(tmp_path / "fusion.json", named, CODES)
