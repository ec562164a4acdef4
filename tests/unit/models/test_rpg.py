"""RPG: packing changes nothing, the hand-written gradient is autograd's, files round-trip."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tesserec.errors import ArtifactError, TesserecError
from tesserec.models.item_loss import START_SCALE
from tesserec.models.packed import pack
from tesserec.models.rpg import RPG, Shape
from tesserec.training.packing import make_batch, windows
from tests.fakes.padded import padded

ITEMS, DIGITS, SIZE = 40, 6, 16


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(5)


def make_model(rng: np.random.Generator, **changes: Any) -> RPG:
    """A small model whose heads have left their zero start."""
    torch.set_num_threads(1)
    codes = rng.integers(0, SIZE, (ITEMS, DIGITS)).astype(np.uint8)
    settings: dict[str, Any] = {"dim": 24, "heads": 2, "ffn": 32, "dropout": 0.0} | changes
    model = RPG(Shape(digits=DIGITS, codebook_size=SIZE, **settings), codes, seed=3)
    generator = torch.Generator().manual_seed(4)
    torch.nn.init.normal_(model.head_weight, std=0.3, generator=generator)
    torch.nn.init.normal_(model.head_bias, std=0.3, generator=generator)
    return model


def gradients(model: RPG) -> dict[str, torch.Tensor]:
    return {k: p.grad.clone() for k, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("scale", ["sqrt", "mean"])
def test_packed_equals_padded(rng: np.random.Generator, scale: str) -> None:
    model = make_model(rng, item_scale=scale)
    users = [rng.integers(0, ITEMS, n) for n in (2, 51, 7, 3, 3, 30, 12, 2)]
    packed = make_batch(windows(users, 50), np.arange(len(users)))
    losses, grads = [], []
    for batch in (packed, padded(users)):
        model.zero_grad()
        loss = model.loss(batch, smoothing=0.1)
        loss.backward()
        losses.append(loss.item())
        grads.append(gradients(model))
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    for name, grad in grads[0].items():
        torch.testing.assert_close(grad, grads[1][name], rtol=1e-4, atol=1e-5, msg=name)


@pytest.mark.parametrize(("item_loss", "negatives"), [(0.0, 1), (0.7, 15), (0.7, ITEMS)])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_gradient_by_hand_is_that_of_autograd(
    rng: np.random.Generator, smoothing: float, item_loss: float, negatives: int
) -> None:
    model = make_model(rng, item_loss=item_loss, negatives=negatives)
    users = [rng.integers(0, ITEMS // 2, n) for n in rng.integers(2, 90, 12)]
    batch = make_batch(windows(users, 50), np.arange(12))
    torch.manual_seed(9)  # the same items are drawn
    loss = model.loss(batch, smoothing)
    loss.backward()
    expected = gradients(model)
    model.zero_grad()
    torch.manual_seed(9)
    assert model.backward(batch, smoothing).item() == pytest.approx(loss.item(), rel=1e-5)
    for name, grad in gradients(model).items():
        torch.testing.assert_close(grad, expected[name], rtol=1e-4, atol=1e-6, msg=name)


def test_hidden_tokens_are_for_training_alone(rng: np.random.Generator) -> None:
    model = make_model(rng, token_dropout=0.5, item_dropout=0.3)
    items = torch.from_numpy(rng.integers(0, ITEMS, 4000))
    plain = model.item_vectors(items)
    model.eval()
    assert model._hidden_tokens(len(items)) is None
    model.train()
    weights = model._hidden_tokens(len(items))
    assert weights is not None
    shown = weights.sum(1)
    assert (shown[shown > 0] - DIGITS).abs().max() < 1e-4  # what is left makes up for the rest
    assert ((shown == 0).float().mean() - 0.3).abs() < 0.05
    assert ((weights > 0).float().sum(1)[shown > 0].mean() - DIGITS / 2).abs() < 0.2
    hidden = model.item_vectors(items, weights)
    assert not torch.allclose(hidden, plain)
    assert hidden[shown == 0].abs().max() == 0


def with_own_vectors(rng: np.random.Generator, **changes: Any) -> RPG:
    model = make_model(rng, id_vectors=ITEMS, **changes)
    torch.nn.init.normal_(model.ids, std=0.3, generator=torch.Generator().manual_seed(6))
    return model


@pytest.mark.parametrize("make", [make_model, with_own_vectors])
def test_gradient_by_hand_with_hidden_tokens(rng: np.random.Generator, make: Any) -> None:
    model = make(rng, token_dropout=0.3, item_dropout=0.1, item_loss=0.5)
    batch = make_batch(windows([rng.integers(0, ITEMS, n) for n in (9, 30, 2)], 50), np.arange(3))
    torch.manual_seed(2)
    loss = model.loss(batch)
    loss.backward()
    expected = gradients(model)
    model.zero_grad()
    torch.manual_seed(2)
    assert model.backward(batch).item() == pytest.approx(loss.item(), rel=1e-5)
    for name, grad in gradients(model).items():
        torch.testing.assert_close(grad, expected[name], rtol=1e-4, atol=1e-6, msg=name)


def test_own_vectors_begin_at_nothing_and_tell_items_of_equal_codes_apart(
    rng: np.random.Generator,
) -> None:
    plain = make_model(np.random.default_rng(5)).eval()
    model = make_model(np.random.default_rng(5), id_vectors=ITEMS).eval()
    twins = [np.array([1, 2, 3]), np.array([1, 2, 4])]
    for m in (plain, model):
        m.codes[4] = m.codes[3]
    assert torch.equal(model.state(twins), plain.state(twins))
    with torch.no_grad():
        model.ids[4] += 0.5
    states = model.state(twins)
    assert torch.equal(states[0], plain.state(twins)[0])
    assert not torch.allclose(states[0], states[1])


def test_items_that_training_never_saw_keep_no_own_vector(rng: np.random.Generator) -> None:
    model = make_model(rng, id_vectors=ITEMS, item_loss=0.5)
    users = [rng.integers(5, ITEMS - 5, n) for n in rng.integers(2, 40, 12)]
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    for _ in range(3):
        optimizer.zero_grad()
        model.backward(make_batch(windows(users, 50), np.arange(12)))
        optimizer.step()
    norms = model.ids.detach().norm(dim=1)
    seen = np.unique(np.concatenate([u[:-1] for u in users]))
    assert (norms[seen] > 0).all() and int((norms > 0).sum()) == len(seen)


def test_own_vectors_are_left_out_at_random_in_training_alone(rng: np.random.Generator) -> None:
    model = with_own_vectors(rng, id_dropout=0.3)
    items = torch.from_numpy(rng.integers(0, ITEMS, (50, 80)))
    left_out = (model._own_vectors(items, None) == 0).all(-1).float().mean()
    assert abs(left_out - 0.3) < 0.03
    hidden = torch.zeros(items.numel(), DIGITS)
    hidden[7] = 1.0
    shown = (model.eval()._own_vectors(items, hidden) != 0).any(-1).flatten()
    assert shown.nonzero().flatten().tolist() == [7]
    assert (model._own_vectors(items, None) != 0).any(-1).all()


@pytest.mark.parametrize("item_loss", [0.0, 0.7])
def test_bf16_gradient_is_close(rng: np.random.Generator, item_loss: float) -> None:
    model = make_model(rng, item_loss=item_loss, negatives=ITEMS)
    users = [rng.integers(0, ITEMS, n) for n in rng.integers(2, 40, 12)]
    batch = make_batch(windows(users, 50), np.arange(12))
    loss = model.backward(batch, 0.1).item()
    exact = gradients(model)
    model.zero_grad()
    assert model.backward(batch, 0.1, bf16=True).item() == pytest.approx(loss, rel=1e-2)
    for name, grad in gradients(model).items():
        assert (grad - exact[name]).norm() <= 0.05 * exact[name].norm() + 1e-7, name


def test_loss_over_items_against_the_formula(rng: np.random.Generator) -> None:
    """Softmax over all items of the scaled score that decoding adds up, in plain numpy."""
    weight = 2.0
    model = make_model(rng, item_loss=weight, negatives=ITEMS)
    events = rng.integers(0, ITEMS, 4)
    batch = make_batch(windows([events], 50), np.arange(1))
    table = model.state([events[:n] for n in (1, 2, 3)]).double().numpy()
    scores = table[:, np.arange(DIGITS), model.codes.numpy()].sum(-1) * START_SCALE  # [3, N]
    log_p = scores - np.log(np.exp(scores).sum(1, keepdims=True))
    digits = make_model(np.random.default_rng(5), item_loss=0.0).loss(batch).item()
    expected = digits - weight * log_p[np.arange(3), events[1:]].mean()
    assert model.loss(batch).item() == pytest.approx(expected, rel=1e-5)


def test_loss_against_the_formula(rng: np.random.Generator) -> None:
    """Mean over digits and targets of the cross-entropy of cosine / temperature, in plain numpy."""
    model = make_model(rng)
    events = rng.integers(0, ITEMS, 4)
    batch = make_batch(windows([events], 50), np.arange(1))
    table = model.state([events[:n] for n in (1, 2, 3)]).numpy()
    codes = model.codes.numpy()[events[1:]]
    picked = np.take_along_axis(table, codes[:, :, None], axis=2)
    assert model.loss(batch).item() == pytest.approx(-picked.mean(), rel=1e-5)
    np.testing.assert_allclose(np.exp(table).sum(-1), 1, rtol=1e-5)


def test_released_initialisation_is_the_identity_head(rng: np.random.Generator) -> None:
    codes = rng.integers(0, SIZE, (ITEMS, DIGITS)).astype(np.uint8)
    model = RPG(Shape(digits=DIGITS, codebook_size=SIZE, dim=24, heads=2, ffn=32), codes, seed=1)
    packed, starts = pack([np.array([3, 4])])
    model.eval()
    hidden = model.hidden(packed).flatten(0, 1)[starts[0] + 1]
    unit = torch.nn.functional.normalize
    expected = torch.einsum("d,mkd->mk", unit(hidden, dim=0), unit(model.tokens, dim=-1)) / 0.03
    torch.testing.assert_close(
        model.state([np.array([3, 4])])[0], expected.log_softmax(-1), rtol=1e-4, atol=1e-4
    )


def test_state_depends_neither_on_company_nor_on_what_lies_beyond_50(
    rng: np.random.Generator,
) -> None:
    model = make_model(rng, dropout=0.5).train()
    histories = [rng.integers(0, ITEMS, n) for n in (1, 70, 50, 3, 9)]
    together = model.state(histories)
    assert model.training
    for line, history in zip(together, histories, strict=True):
        torch.testing.assert_close(model.state([history])[0], line, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(model.state([history[-50:]])[0], line, rtol=1e-4, atol=1e-4)


def test_empty_history_is_refused_and_no_histories_are_fine(rng: np.random.Generator) -> None:
    model = make_model(rng)
    with pytest.raises(TesserecError, match="no known item"):
        model.state([np.array([1]), np.array([], dtype=np.int64)])
    assert model.state([]).shape == (0, DIGITS, SIZE)


@pytest.mark.parametrize("make", [make_model, with_own_vectors])
def test_save_and_load(rng: np.random.Generator, tmp_path: Path, make: Any) -> None:
    model = make(rng).eval()
    codes = model.codes.numpy().astype(np.uint8)
    model.save(tmp_path / "a")
    model.save(tmp_path / "b")
    for name in ("model.safetensors", "model.json"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    grown = np.concatenate([codes, codes[:3]])  # the code table may have grown since
    loaded = RPG.load(tmp_path / "a", grown)
    history = [np.array([1, 2, 3])]
    assert torch.equal(loaded.state(history), model.state(history))
    with torch.no_grad():  # an item newer than the model stands as its codes alone
        loaded.codes[3] = loaded.codes[ITEMS + 1]
        if loaded.shape.id_vectors:
            loaded.ids[3] = 0.0
    newer, twin = (loaded.state([np.array([1, 2, row])]) for row in (ITEMS + 1, 3))
    assert torch.equal(newer, twin)


def test_load_refuses_other_codes_and_damaged_files(
    rng: np.random.Generator, tmp_path: Path
) -> None:
    model = make_model(rng)
    model.save(tmp_path)
    with pytest.raises(ArtifactError, match="digits"):
        RPG.load(tmp_path, np.zeros((4, DIGITS + 1), dtype=np.uint8))
    with pytest.raises(ArtifactError, match="code 200"):
        RPG.load(tmp_path, np.full((4, DIGITS), 200, dtype=np.uint8))
    with_own_vectors(rng).save(tmp_path / "own")
    with pytest.raises(ArtifactError, match=f"4 items, the model was trained with {ITEMS}"):
        RPG.load(tmp_path / "own", np.zeros((4, DIGITS), dtype=np.uint8))
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-40])
    with pytest.raises(ArtifactError, match="no readable RPG model"):
        RPG.load(tmp_path, np.zeros((4, DIGITS), dtype=np.uint8))
