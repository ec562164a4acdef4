"""A model goes on under codes that were made anew: what kept its meaning keeps its weights."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from tesserec.errors import ArtifactError
from tesserec.models.rpg import RPG, Shape
from tesserec.retokenization.warm_start import warm_started

OLD_ITEMS, DIGITS, SIZE = 60, 5, 8
RNG = np.random.default_rng(3)
OLD = RNG.integers(0, SIZE, (OLD_ITEMS, DIGITS)).astype(np.uint8)
# the new table: other rows, ten items gone, five new ones in between
ROWS = np.insert(RNG.permutation(OLD_ITEMS)[:50], [3, 10, 20, 20, 50], -1)


def new_table() -> np.ndarray:
    """As before but for code 3 of digit 1 and half of the codes of digit 2."""
    table = OLD[np.maximum(ROWS, 0)].copy()
    table[ROWS < 0] = RNG.integers(0, SIZE, ((ROWS < 0).sum(), DIGITS))
    swapped = table[:, 1] == 3
    table[table[:, 1] == 4, 1] = 3
    table[swapped, 1] = 4
    table[:, 2] = (table[:, 2] + 4 * RNG.integers(0, 2, len(table))) % SIZE
    return table


def old_model(item_loss: bool = True) -> RPG:
    shape = Shape(digits=DIGITS, codebook_size=SIZE, dim=16, layers=1, ffn=16)
    if item_loss:
        shape = replace(shape, id_vectors=OLD_ITEMS)
    model = RPG(shape, OLD, seed=2)
    with torch.no_grad():
        generator = torch.Generator().manual_seed(1)
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.1)
    return model.eval()


def test_codes_that_kept_their_meaning_keep_their_tokens() -> None:
    old, new = old_model(), new_table()
    model, changed = warm_started(old, OLD, new, ROWS)
    kept = torch.from_numpy(~changed)
    assert torch.equal(model.tokens[kept], old.tokens[kept])
    assert changed[1, [3, 4]].all() and changed[1].sum() == 2
    assert not changed[[0, 3, 4]].any()
    moved = model.tokens[~kept] - old.tokens[~kept]
    assert (moved.abs().max(dim=1).values > 1e-3).all()
    for name, value in old.state_dict().items():
        if name not in ("tokens", "ids"):
            assert torch.equal(model.state_dict()[name], value), name


def test_the_codes_that_were_exchanged_begin_near_each_other() -> None:
    old = old_model()
    model, _ = warm_started(old, OLD, new_table(), ROWS)
    for mine, other in ((3, 4), (4, 3)):
        gaps = (model.tokens[1, mine] - old.tokens[1]).norm(dim=1)
        assert int(gaps.argmin()) == other


def test_vectors_of_items_go_to_their_new_rows() -> None:
    old = old_model()
    model, _ = warm_started(old, OLD, new_table(), ROWS)
    assert model.ids.shape == (len(ROWS), 16) and model.shape.id_vectors == len(ROWS)
    for row, before in enumerate(ROWS.tolist()):
        wanted = old.ids[before] if before >= 0 else torch.zeros(16)
        assert torch.equal(model.ids[row], wanted), row


def test_items_newer_than_the_model_have_no_vector() -> None:
    """The table grew since it was trained; its vectors did not."""
    old = old_model()
    grown = np.concatenate([OLD, OLD[:2]])
    rows = np.array([OLD_ITEMS, 0, OLD_ITEMS + 1])
    model, _ = warm_started(old, grown, grown[rows], rows)
    assert torch.equal(model.ids[1], old.ids[0])
    assert not model.ids[[0, 2]].any()


def test_a_model_without_vectors_of_items() -> None:
    old = old_model(item_loss=False)
    model, _ = warm_started(old, OLD, new_table(), ROWS)
    assert model.shape.id_vectors == 0 and "ids" not in model.state_dict()


def test_the_same_codes_change_nothing() -> None:
    old = old_model()
    model, changed = warm_started(old, OLD, OLD, np.arange(OLD_ITEMS))
    assert not changed.any()
    for name, value in old.state_dict().items():
        assert torch.equal(model.state_dict()[name], value), name


def test_another_number_of_digits_is_refused() -> None:
    with pytest.raises(ArtifactError, match="new codes have 4 digits, the model 5; train it anew"):
        warm_started(old_model(), OLD, new_table()[:, :4], ROWS)
