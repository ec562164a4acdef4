"""The baselines of bench-train are the same function as RPG, laid out otherwise."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from benchmarks.baselines.padded_rpg import PaddedRPG, padded, released_windows
from benchmarks.baselines.switched_off import (
    Autograd,
    HeadsEverywhere,
    PaddedHeadsEverywhere,
    Unpacked,
)
from tesserec.models.rpg import RPG, Shape
from tesserec.training.packing import Windows, make_batch, windows

ITEMS = 40
SHAPE = Shape(
    digits=6, codebook_size=8, dim=16, heads=2, ffn=24, dropout=0.0, item_scale="mean", positions=9
)


def parts(released: bool) -> tuple[np.ndarray, Windows]:
    rng = np.random.default_rng(2)
    codes = rng.integers(0, 8, (ITEMS, 6)).astype(np.uint8)
    sequences = [rng.integers(0, ITEMS, n) for n in (1, 2, 3, 5, 9, 10, 11, 25, 4)]
    return codes, (released_windows if released else windows)(sequences, SHAPE.positions)


def models(codes: np.ndarray) -> tuple[RPG, PaddedRPG]:
    ours = RPG(SHAPE, codes, seed=3)
    with torch.no_grad():  # heads and biases start at 0, which would hide a mistake
        generator = torch.Generator().manual_seed(4)
        for parameter in ours.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.05)
    plain = PaddedRPG(SHAPE, codes)
    plain.take_weights(ours)
    return ours, plain


@pytest.mark.parametrize("released", [True, False])
def test_the_padded_baseline_has_our_loss_and_gradient(released: bool) -> None:
    codes, data = parts(released)
    ours, plain = models(codes)
    rows = np.arange(len(data.events))
    mine = ours.backward(make_batch(data, rows))
    theirs = plain.loss(*padded(data, rows, SHAPE.positions))
    theirs.backward()
    assert float(mine) == pytest.approx(float(theirs.detach()), rel=1e-6)
    assert ours.tokens.grad is not None and plain.tokens.weight.grad is not None
    torch.testing.assert_close(
        ours.tokens.grad.flatten(0, 1), plain.tokens.weight.grad, rtol=1e-4, atol=1e-6
    )


def test_released_windows_make_each_event_a_target_once() -> None:
    data = released_windows([np.arange(25)], 9)
    targets = [e[k + 1 :] for e, k in zip(data.events, data.skip.tolist(), strict=True)]
    assert np.concatenate(targets).tolist() == list(range(1, 25))
    assert [len(e) for e in data.events] == [10] * 16
    assert data.targets == 24


@pytest.mark.parametrize("kind", [Unpacked, Autograd, HeadsEverywhere, PaddedHeadsEverywhere])
def test_without_one_improvement_loss_and_gradient_are_the_same(kind: type[RPG]) -> None:
    codes, data = parts(False)
    ours, _ = models(codes)
    other = kind(SHAPE, codes)
    other.load_state_dict(ours.state_dict())
    batch = make_batch(data, np.arange(len(data.events)))
    assert float(other.backward(batch)) == pytest.approx(float(ours.backward(batch)), rel=1e-6)
    pairs = zip(other.parameters(), ours.parameters(), strict=True)
    for mine, theirs in pairs:
        assert mine.grad is not None and theirs.grad is not None
        torch.testing.assert_close(mine.grad, theirs.grad, rtol=1e-4, atol=1e-6)
