from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as limits
from hypothesis import strategies as st

from tesserec.retokenization.drift import Coded, Evidence, alarm, coded, drift, folk_psi
from tesserec.tokenizers.opq import OPQ
from tests.fakes.mixture import DIM, items, kinds

KNOWN, NOVEL = kinds(60), kinds(1, seed=3)
NEW = 700


@functools.cache
def fitted(method: type) -> tuple[Any, np.ndarray, Coded]:
    """A tokenizer, the codes that it was fitted on, and held-out items."""
    rng = np.random.default_rng(1)
    x = items(5000, rng, KNOWN)
    tokenizer = method(8 if method is OPQ else 3, 256, 5)
    tokenizer.fit(x, rng)
    return tokenizer, tokenizer.encode(x), coded(tokenizer, items(800, rng, KNOWN))


def share_of_alarms(method: type, draws: int, novel: int) -> tuple[float, float]:
    """Share of draws with an alarm, and with one by the folk rule on the first digit."""
    tokenizer, trained, held_out = fitted(method)
    found, folk = [], []
    for draw in range(draws):
        rng = np.random.default_rng([draw, novel])
        x = np.concatenate([items(NEW - novel, rng, KNOWN), items(novel, rng, NOVEL)])
        new = coded(tokenizer, x)
        found.append(alarm(drift(held_out, new, tokenizer.hierarchical, rng)))
        folk.append(folk_psi(trained[:, :1], new.codes[:, :1], 256)[0] > 0.25)
    return float(np.mean(found)), float(np.mean(folk))


TOKENIZERS = [OPQ]


@pytest.mark.parametrize("method", TOKENIZERS)
def test_without_drift_hardly_an_alarm_but_the_folk_rule_cries(method: type) -> None:
    found, folk = share_of_alarms(method, 30, 0)
    assert found <= 0.03 and folk > 0.9


@pytest.mark.parametrize("method", TOKENIZERS)
def test_a_novel_region_is_caught(method: type) -> None:
    assert share_of_alarms(method, 10, 126)[0] == 1


@pytest.mark.slow
@pytest.mark.parametrize("method", TOKENIZERS)
def test_calibration_over_200_draws(method: type) -> None:
    assert share_of_alarms(method, 200, 0)[0] <= 0.03
    assert share_of_alarms(method, 200, 126)[0] >= 0.95


def statistic(make: Callable[[np.random.Generator, int], np.ndarray]) -> list[Evidence]:
    """Evidence on codes `make(rng, group)`, [300, 4], with errors and vectors alike."""
    rng = np.random.default_rng(0)
    groups = [
        Coded(vectors=rng.standard_normal((300, 2)), codes=make(rng, g), errors=rng.random(300))
        for g in (0, 1)
    ]
    return drift(groups[0], groups[1], False, rng, 200)


def test_each_test_answers_to_its_own_kind_of_difference() -> None:
    same = statistic(lambda rng, _: rng.integers(0, 16, (300, 4)))
    assert [e.test for e in same] == ["psi", "entropy", "ks", "mean"]
    assert min(e.p for e in same) > 0.01 and not alarm(same)
    other = statistic(lambda rng, group: rng.integers(0, 16, (300, 4)) // (1 + group))
    psi, entropy, ks, mean = other
    assert psi.p == entropy.p == 1 / 201 and min(ks.p, mean.p) > 0.01
    assert entropy.effect == pytest.approx(1, abs=0.05) and psi.effect > 10 * psi.null
    richer = statistic(lambda rng, group: rng.integers(0, 8 * (1 + group), (300, 4)))
    assert richer[1].p == 1  # more codes in use are no loss of entropy


def test_errors_and_vectors_that_differ_while_the_codes_do_not() -> None:
    rng = np.random.default_rng(0)
    codes, errors = rng.integers(0, 16, (600, 4)), rng.random(600)
    x = rng.standard_normal((600, 3))
    old = Coded(vectors=x[:300], codes=codes[:300], errors=errors[:300])
    worse = Coded(vectors=x[300:], codes=codes[300:], errors=errors[300:] + 0.3)
    assert [e.p < 0.005 for e in drift(old, worse, False, rng)] == [False, False, True, False]
    apart = Coded(vectors=x[300:] + 1, codes=codes[300:], errors=errors[300:])
    assert [e.p < 0.005 for e in drift(old, apart, False, rng)] == [False, False, False, True]


def test_a_sure_but_small_difference_is_no_alarm() -> None:
    sure = [Evidence(test=t, p=0.0001, effect=0.001, null=0) for t in ("psi", "entropy", "mean")]
    assert not alarm(sure)
    assert alarm([*sure[:2], Evidence(test="mean", p=0.5, effect=0.006, null=0)])
    assert not alarm([])


def test_a_group_without_items_is_no_evidence() -> None:
    tokenizer, _, held_out = fitted(OPQ)
    nobody = coded(tokenizer, np.zeros((0, DIM), np.float32))
    rng = np.random.default_rng(0)
    assert drift(held_out, nobody, False, rng) == drift(nobody, held_out, False, rng) == []
    one = coded(tokenizer, np.ones((1, DIM), np.float32))
    assert all(0 < e.p <= 1 for e in drift(held_out, one, False, rng))


@given(st.integers(0, 2**31), st.integers(1, 40), st.integers(1, 40), st.booleans())
@limits(max_examples=30)
def test_p_is_a_p_value_for_any_sizes(seed: int, n: int, m: int, hierarchical: bool) -> None:
    rng = np.random.default_rng(seed)

    def group(size: int) -> Coded:
        return Coded(
            vectors=rng.standard_normal((size, 2)),
            codes=rng.integers(0, 5, (size, 2)),
            errors=rng.integers(0, 3, size).astype(float),
        )

    for evidence in drift(group(n), group(m), hierarchical, rng, 20):
        assert 1 / 21 <= evidence.p <= 1 and np.isfinite([evidence.effect, evidence.null]).all()
