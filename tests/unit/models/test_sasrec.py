"""SASRec: packing changes nothing, the hand-written gradient is autograd's, files round-trip."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tesserec.errors import ArtifactError, TesserecError
from tesserec.models import catalogue_softmax
from tesserec.models.packed import pack
from tesserec.models.sasrec import SASRec, Shape
from tesserec.training.packing import make_batch, windows
from tests.fakes.padded import padded

ITEMS = 40
TRAINED = np.arange(ITEMS) % 5 != 0  # row 0 has no vector either


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(5)


def make_model(**changes: Any) -> SASRec:
    """A small model with vectors of unit size, so that logits differ."""
    torch.set_num_threads(1)
    settings: dict[str, Any] = {"dim": 24, "heads": 2, "ffn": 32, "dropout": 0.0} | changes
    model = SASRec(Shape(items=ITEMS, **settings), TRAINED, seed=3)
    torch.nn.init.normal_(model.vectors, generator=torch.Generator().manual_seed(4))
    return model


def users(rng: np.random.Generator, lengths: Any) -> list[np.ndarray]:
    return [rng.choice(np.flatnonzero(TRAINED), n) for n in lengths]


def gradients(model: SASRec) -> dict[str, torch.Tensor]:
    return {k: p.grad.clone() for k, p in model.named_parameters() if p.grad is not None}


def test_packed_equals_padded(rng: np.random.Generator) -> None:
    model = make_model()
    events = users(rng, (2, 51, 7, 3, 3, 30, 12, 2))
    losses, grads = [], []
    for batch in (make_batch(windows(events, 50), np.arange(len(events))), padded(events)):
        model.zero_grad()
        losses.append(model.backward(batch, 0.1).item())
        grads.append(gradients(model))
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    for name, grad in grads[0].items():
        torch.testing.assert_close(grad, grads[1][name], rtol=1e-4, atol=1e-5, msg=name)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("block", [100, 2**21])
def test_gradient_by_hand_is_that_of_autograd(
    rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch, smoothing: float, block: int
) -> None:
    monkeypatch.setitem(catalogue_softmax.BLOCK, "cpu", block)
    model = make_model()
    batch = make_batch(windows(users(rng, rng.integers(2, 90, 12)), 50), np.arange(12))
    loss = model.loss(batch, smoothing)
    loss.backward()
    expected = gradients(model)
    model.zero_grad()
    assert model.backward(batch, smoothing).item() == pytest.approx(loss.item(), rel=1e-5)
    for name, grad in gradients(model).items():
        torch.testing.assert_close(grad, expected[name], rtol=1e-4, atol=1e-6, msg=name)


def test_a_target_whose_probability_vanishes_has_a_loss(rng: np.random.Generator) -> None:
    model = make_model()
    batch = make_batch(windows(users(rng, (9, 9)), 50), np.arange(2))
    with torch.no_grad():
        model.vectors.mul_(500)
    loss = model.backward(batch).item()
    assert loss > 200 and loss == pytest.approx(model.loss(batch).item(), rel=1e-4)


def test_bf16_gradient_is_close(rng: np.random.Generator) -> None:
    model = make_model()
    batch = make_batch(windows(users(rng, rng.integers(2, 40, 12)), 50), np.arange(12))
    loss = model.backward(batch, 0.1).item()
    exact = gradients(model)
    model.zero_grad()
    assert model.backward(batch, 0.1, bf16=True).item() == pytest.approx(loss, rel=1e-2)
    for name, grad in gradients(model).items():
        assert (grad - exact[name]).norm() <= 0.05 * exact[name].norm() + 1e-7, name


def test_sampled_softmax_against_plain_numpy(rng: np.random.Generator) -> None:
    model = make_model(negatives=30)
    batch = make_batch(windows(users(rng, (8, 5, 3)), 50), np.arange(3))
    torch.manual_seed(7)
    loss = model.loss(batch, 0.1).item()
    torch.manual_seed(7)
    drawn = torch.randint(int(TRAINED.sum()), (30,)).numpy()
    with torch.no_grad():
        hidden = model.hidden(batch.inputs).flatten(0, 1)[batch.target_at].double().numpy()
    vectors = model.vectors.detach().double().numpy()
    expected = []
    for s, target in zip(hidden, model.id_of[batch.target_items].tolist(), strict=True):
        others = vectors[drawn[drawn != target]] @ s
        total = np.log(np.exp(others).sum() + np.exp(vectors[target] @ s))
        expected.append(total - 0.9 * (vectors[target] @ s) - 0.1 / 30 * others.sum())
        # a draw that hits the target leaves its share of the smoothing out
        expected[-1] -= 0.1 / 30 * total * (30 - len(others))
    assert loss == pytest.approx(np.mean(expected), rel=1e-5)


def test_sampled_steps_are_seeded_by_torch(rng: np.random.Generator) -> None:
    model = make_model(negatives=8, dropout=0.3)
    batch = make_batch(windows(users(rng, (8, 5, 3)), 50), np.arange(3))
    made = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        model.zero_grad()
        made.append((model.backward(batch).item(), gradients(model)["vectors"]))
    assert made[0][0] == made[1][0] and torch.equal(made[0][1], made[1][1])
    assert made[0][0] != made[2][0]


def test_state_leaves_out_items_without_a_vector_and_what_lies_beyond_50(
    rng: np.random.Generator,
) -> None:
    model = make_model(dropout=0.5).train()
    known = users(rng, (1, 70, 50, 3, 9))
    together = model.state([np.insert(h, 0, [0, 5, 10]) for h in known])
    assert model.training
    for line, history in zip(together, known, strict=True):
        torch.testing.assert_close(model.state([history])[0], line, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(model.state([history[-50:]])[0], line, rtol=1e-4, atol=1e-4)


def test_state_of_unknown_items_alone_is_what_users_have_in_common() -> None:
    model = make_model()
    torch.nn.init.normal_(model.backbone.norm.bias, generator=torch.Generator().manual_seed(1))
    states = model.state([np.array([0, 10]), np.array([1]), np.array([5])])
    assert torch.equal(states[0], model.backbone.norm.bias) and torch.equal(states[2], states[0])
    assert not torch.equal(states[1], states[0])


def test_empty_history_is_refused_and_no_histories_are_fine() -> None:
    model = make_model()
    with pytest.raises(TesserecError, match="no known item"):
        model.state([np.array([1]), np.array([], dtype=np.int64)])
    assert model.state([]).shape == (0, 24)


def test_save_and_read(tmp_path: Path) -> None:
    model = make_model().eval()
    model.save(tmp_path / "a")
    model.save(tmp_path / "b")
    for name in ("model.safetensors", "model.json"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    loaded = SASRec.load(tmp_path / "a")
    history = [np.array([1, 2, 3])]
    assert torch.equal(loaded.state(history), model.state(history))
    grown = SASRec.load(tmp_path / "a", ITEMS + 2)
    assert np.array_equal(grown.known(), np.append(TRAINED, [False, False]))
    scores = grown.scorer().scores(grown.state([np.array([1, ITEMS + 1])]), 0, ITEMS + 2)
    assert torch.equal(
        scores[:ITEMS], model.scorer().scores(model.state([np.array([1])]), 0, ITEMS)
    )
    with pytest.raises(ArtifactError, match="has 3 items"):
        SASRec.load(tmp_path / "a", 3)
    weights = tmp_path / "a" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-40])
    with pytest.raises(ArtifactError, match="no readable SASRec model"):
        SASRec.load(tmp_path / "a")


def test_packing_of_targets_that_have_no_vector_never_happens(rng: np.random.Generator) -> None:
    """Every item of a training sequence is trained on, so each target has its own vector."""
    events = users(rng, rng.integers(2, 60, 20))
    packed, _ = pack([e[:-1] for e in windows(events, 50).events])
    model = make_model()
    used = packed.items[packed.segments >= 0]
    assert bool((model.id_of[used] >= 0).all())
