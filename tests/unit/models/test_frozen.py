"""A frozen model computes what it computed before, whatever the sizes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tesserec.models import frozen
from tesserec.models.packed import pack
from tesserec.models.rpg import RPG, Shape
from tesserec.models.sasrec import SASRec
from tesserec.models.sasrec import Shape as SASRecShape

N = 90
RNG = np.random.default_rng(3)
CODES = RNG.integers(0, 16, (N, 6)).astype(np.uint8)
TRAINED = RNG.random(N) < 0.9
lengths = st.lists(st.integers(1, 60), min_size=1, max_size=40)


def rpg() -> RPG:
    shape = Shape(digits=6, codebook_size=16, dim=32, ffn=48, heads=2, id_vectors=N - 3)
    model = RPG(shape, CODES, seed=4)
    with torch.no_grad():  # what begins at zero would hide a mistake
        for weight in (model.head_weight, model.head_bias, model.ids):
            weight.normal_(std=0.3, generator=torch.Generator().manual_seed(1))
    return model.eval()


def sasrec() -> SASRec:
    return SASRec(SASRecShape(items=N, dim=32, ffn=48, heads=2), TRAINED, seed=4).eval()


@pytest.mark.parametrize("make", [rpg, sasrec])
@pytest.mark.parametrize("library", ["oneDNN", "none"])
def test_frozen_equals_plain(make: type, library: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if library == "none":
        monkeypatch.setattr(frozen, "_packed", lambda _: None)
    plain, quick = make(), make()
    quick.freeze()

    @given(lengths)
    def check(counts: list[int]) -> None:
        histories = [np.arange(count) * 7 % N for count in counts]
        torch.testing.assert_close(
            quick.state(histories), plain.state(histories), rtol=1e-4, atol=1e-4
        )

    check()


@pytest.mark.parametrize("make", [rpg, sasrec])
def test_frozen_is_float32_under_autocast(make: type) -> None:
    model, history = make(), [np.arange(9), np.arange(30)]
    model.freeze()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = model.state(history)
    assert torch.equal(inside, model.state(history))


def test_training_thaws() -> None:
    model = rpg()
    model.freeze()
    before = model.state([np.arange(5)])
    model.train()
    with torch.no_grad():
        model.tokens.add_(torch.randn(model.tokens.shape, generator=torch.Generator()))
    model.eval()
    assert not torch.allclose(model.state([np.arange(5)]), before, atol=1e-2)


@given(st.lists(st.integers(1, 50), min_size=1, max_size=64))
def test_sizes_are_few_and_places_stay(counts: list[int]) -> None:
    packed, starts = pack([np.arange(count) + 1 for count in counts])
    at = torch.from_numpy(starts + np.array(counts) - 1)
    grown, moved = frozen.padded(packed, at)
    rows, width = grown.items.shape
    assert width % 8 == 0 and rows in frozen.sizes(frozen.WARM_ROWS)
    assert len(moved) in frozen.sizes(64)
    assert torch.equal(grown.items.flatten()[moved[: len(at)]], packed.items.flatten()[at])
