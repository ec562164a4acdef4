"""Tokens under new codes: a renaming changes no score, a mix generalises it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from tesserec.decoders.exhaustive import Exhaustive
from tesserec.errors import UsageError
from tesserec.models.rpg import RPG, Shape
from tesserec.models.sasrec import SASRec
from tesserec.models.sasrec import Shape as SASRecShape
from tesserec.retokenization.tokens import (
    changed_codes,
    code_counts,
    rename_moments,
    rename_tokens,
    reset_moments,
    soft_tokens,
)

ITEMS, DIGITS, SIZE = 60, 6, 16
RNG = np.random.default_rng(4)
CODES = RNG.integers(0, SIZE, (ITEMS, DIGITS)).astype(np.uint8)
NEW_OF = np.stack([RNG.permutation(SIZE) for _ in range(DIGITS)])  # old name -> new name
OLD_OF = np.argsort(NEW_OF, axis=1)
RENAMED = np.stack([NEW_OF[j][CODES[:, j]] for j in range(DIGITS)], axis=1).astype(np.uint8)
HISTORIES = [RNG.integers(0, ITEMS, n) for n in (1, 4, 30, 50, 77)]


def old_model() -> RPG:
    model = RPG(Shape(digits=DIGITS, codebook_size=SIZE, dim=32, ffn=32), CODES, seed=2)
    with torch.no_grad():  # heads start at 0
        for parameter in model.parameters():
            parameter.add_(
                torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)) * 0.1
            )
    return model.eval()


def logits(model: Any) -> torch.Tensor:
    """[B, m, K] after each history, before the softmax."""
    from tesserec.models.packed import pack

    packed, starts = pack([h[-50:] for h in HISTORIES])
    last = torch.from_numpy(starts + np.array([min(len(h), 50) - 1 for h in HISTORIES]))
    with torch.inference_mode():
        s_Bd = model.hidden(packed).flatten(0, 1)[last]
        return model._logits(s_Bd, slice(None)).transpose(0, 1)


def test_renamed_tokens_give_the_logits_of_the_old_model_under_the_new_names() -> None:
    old = old_model()
    new = rename_tokens(old, OLD_OF).grown(RENAMED)
    rows = torch.arange(ITEMS)
    assert torch.equal(new.item_vectors(rows), old.item_vectors(rows))
    index = torch.from_numpy(OLD_OF).expand(len(HISTORIES), -1, -1)
    assert torch.equal(logits(new), logits(old).gather(2, index))


def test_renamed_tokens_rank_as_the_old_model() -> None:
    old = old_model()
    old.freeze()  # as a served model is; what it made ready must not be taken over
    new = rename_tokens(old, OLD_OF).grown(RENAMED)
    a = Exhaustive.of(old, CODES).rank(old.state(HISTORIES), ITEMS)
    b = Exhaustive.of(new, RENAMED).rank(new.state(HISTORIES), ITEMS)
    np.testing.assert_array_equal(a[0], b[0])
    np.testing.assert_allclose(a[1], b[1], rtol=1e-5)
    unnamed = old.grown(RENAMED)  # without the renaming it ranks otherwise
    assert (
        Exhaustive.of(unnamed, RENAMED).rank(unnamed.state(HISTORIES), 5)[0] != a[0][:, :5]
    ).any()


def test_a_renaming_shares_all_other_weights_and_leaves_the_old_model_as_it_was() -> None:
    old = old_model()
    before = old.tokens.detach().clone()
    new = rename_tokens(old, OLD_OF)
    assert new.head_weight is old.head_weight
    with torch.no_grad():
        new.tokens.zero_()
    assert torch.equal(old.tokens, before)
    assert dict(new.named_parameters()).keys() == dict(old.named_parameters()).keys()


def test_soft_tokens_of_a_permutation_without_smoothing_are_renamed_tokens() -> None:
    old = old_model()
    every = np.repeat(np.arange(SIZE)[:, None], DIGITS, axis=1)  # an item of each code
    renamed = np.stack([NEW_OF[j][every[:, j]] for j in range(DIGITS)], axis=1)
    counts = code_counts(every, renamed, SIZE) * 7
    soft = soft_tokens(old, counts, smoothing=0.0)
    assert torch.equal(soft.tokens, rename_tokens(old, OLD_OF).tokens)


def test_soft_tokens_are_means_of_the_codes_that_their_items_had() -> None:
    old = old_model()
    counts = np.zeros((DIGITS, SIZE, SIZE), dtype=np.int64)
    counts[0, 3, 5], counts[0, 3, 6] = 3, 1
    with torch.no_grad():
        soft = soft_tokens(old, counts, smoothing=0.0).tokens
        mixed = 0.75 * old.tokens[0, 5] + 0.25 * old.tokens[0, 6]
        torch.testing.assert_close(soft[0, 3], mixed)
        torch.testing.assert_close(soft[0, 4], old.tokens[0].mean(0))  # nothing is known
        smooth = soft_tokens(old, counts).tokens[0, 3]
        torch.testing.assert_close(smooth, (4 * mixed + 0.5 * old.tokens[0].mean(0)) / 4.5)


def test_moments_go_with_renamed_tokens_and_those_of_changed_ones_are_zero() -> None:
    shape = (DIGITS, SIZE, 3)
    entry = {
        "exp_avg": torch.randn(shape),
        "exp_avg_sq": torch.rand(shape),
        "step": torch.tensor(17.0),
    }
    other = {"exp_avg": torch.ones(2), "exp_avg_sq": torch.ones(2), "step": torch.tensor(17.0)}
    moments = {"tokens": entry, "head_bias": other}
    renamed = rename_moments(moments, OLD_OF)
    assert torch.equal(renamed["tokens"]["exp_avg"][1, 4], entry["exp_avg"][1, OLD_OF[1, 4]])
    assert torch.equal(renamed["tokens"]["exp_avg_sq"][2, 0], entry["exp_avg_sq"][2, OLD_OF[2, 0]])
    changed = np.zeros((DIGITS, SIZE), dtype=bool)
    changed[2, 5] = True
    reset = reset_moments(moments, changed)
    assert not reset["tokens"]["exp_avg"][2, 5].any()
    assert torch.equal(reset["tokens"]["exp_avg"][2, 6], entry["exp_avg"][2, 6])
    for found in (renamed, reset):
        assert found["head_bias"] is other
        assert float(found["tokens"]["step"]) == 17


def test_codes_that_stand_for_other_items_are_changed() -> None:
    old = np.array([[0], [0], [0], [1], [1], [2]])
    new = np.array([[0], [0], [1], [1], [3], [2]])
    assert changed_codes(old, new, 5)[0].tolist() == [False, True, False, True, False]


def test_wrong_names_and_models_are_refused() -> None:
    double = OLD_OF.copy()
    double[0, 0] = double[0, 1]
    with pytest.raises(UsageError, match="permutation"):
        rename_tokens(old_model(), double)
    with pytest.raises(UsageError, match="counts of codes"):
        soft_tokens(old_model(), np.zeros((DIGITS, SIZE)))
    sasrec = SASRec(SASRecShape(items=3, dim=8, ffn=8), np.ones(3, dtype=bool))
    with pytest.raises(UsageError, match="sasrec has no tokens"):
        rename_tokens(sasrec, OLD_OF)
