from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as limits
from hypothesis import strategies as st

from tesserec.retokenization.drift import Coded, Evidence, alarm, compare, drift, folk_psi
from tesserec.retokenization.reference import Reference, make_reference
from tesserec.tokenizers.opq import OPQ
from tesserec.tokenizers.rqkmeans import RQKMeans
from tests.fakes.mixture import DIM, items, kinds

KNOWN, NOVEL = kinds(60), kinds(1, seed=3)
NEW = 700


@functools.cache
def fitted(method: type) -> tuple[Reference, np.ndarray]:
    """A tokenizer with items that it never saw, and the codes of those that it was fitted on."""
    rng = np.random.default_rng(1)
    x = items(5000, rng, KNOWN)
    tokenizer = method(8 if method is OPQ else 3, 256, 5)
    tokenizer.fit(x, rng)
    reference = make_reference(tokenizer, [f"I{n}" for n in range(800)], items(800, rng, KNOWN))
    assert reference
    return reference, tokenizer.encode(x)


def share_of_alarms(method: type, draws: int, novel: int) -> tuple[float, float]:
    """Share of draws with an alarm, and with one by the folk rule on the first digit."""
    reference, trained = fitted(method)
    found, folk = [], []
    for draw in range(draws):
        rng = np.random.default_rng([draw, novel])
        x = np.concatenate([items(NEW - novel, rng, KNOWN), items(novel, rng, NOVEL)])
        found.append(alarm(drift(reference, x, rng)))
        codes = reference.tokenizer.encode(x)
        folk.append(folk_psi(trained[:, :1], codes[:, :1], 256)[0] > 0.25)
    return float(np.mean(found)), float(np.mean(folk))


TOKENIZERS = [OPQ, RQKMeans]


@pytest.mark.parametrize("method", TOKENIZERS)
def test_without_drift_hardly_an_alarm_but_the_folk_rule_cries(method: type) -> None:
    found, folk = share_of_alarms(method, 30, 0)
    assert found <= 0.03 and folk > 0.5


@pytest.mark.parametrize("method", TOKENIZERS)
def test_a_novel_region_is_caught(method: type) -> None:
    assert share_of_alarms(method, 10, 126)[0] == 1


@pytest.mark.slow
@pytest.mark.parametrize("method", TOKENIZERS)
def test_calibration_over_200_draws(method: type) -> None:
    assert share_of_alarms(method, 200, 0)[0] <= 0.03
    assert share_of_alarms(method, 200, 126)[0] >= 0.95


def statistic(make: Callable[[np.random.Generator, int], np.ndarray]) -> list[Evidence]:
    """Evidence on codes `make(rng, group)`, [300, 4], with errors and points alike."""
    rng = np.random.default_rng(0)
    groups = [
        Coded(points=rng.standard_normal((300, 2)), codes=make(rng, g), errors=rng.random(300))
        for g in (0, 1)
    ]
    return compare(groups[0], groups[1], False, rng, 200)


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


def test_errors_and_points_that_differ_while_the_codes_do_not() -> None:
    rng = np.random.default_rng(0)
    codes, errors = rng.integers(0, 16, (600, 4)), rng.random(600)
    x = rng.standard_normal((600, 3))
    old = Coded(points=x[:300], codes=codes[:300], errors=errors[:300])
    worse = Coded(points=x[300:], codes=codes[300:], errors=errors[300:] + 0.3)
    assert [e.p < 0.005 for e in compare(old, worse, False, rng)] == [False, False, True, False]
    apart = Coded(points=x[300:] + 1, codes=codes[300:], errors=errors[300:])
    assert [e.p < 0.005 for e in compare(old, apart, False, rng)] == [False, False, False, True]


def test_a_sure_but_small_difference_is_no_alarm() -> None:
    sure = [Evidence(test=t, p=0.0001, effect=0.001, null=0) for t in ("psi", "entropy", "mean")]
    assert not alarm(sure)
    assert alarm([*sure[:2], Evidence(test="mean", p=0.5, effect=0.006, null=0)])
    assert not alarm([])


def test_a_group_without_items_is_no_evidence() -> None:
    reference, _ = fitted(OPQ)
    rng = np.random.default_rng(0)
    assert drift(reference, np.zeros((0, DIM), np.float32), rng) == []
    assert all(0 < e.p <= 1 for e in drift(reference, np.ones((1, DIM), np.float32), rng))


@given(st.integers(0, 2**31), st.integers(1, 40), st.integers(1, 40), st.booleans())
@limits(max_examples=30)
def test_p_is_a_p_value_for_any_sizes(seed: int, n: int, m: int, hierarchical: bool) -> None:
    rng = np.random.default_rng(seed)

    def group(size: int) -> Coded:
        return Coded(
            points=rng.standard_normal((size, 2)),
            codes=rng.integers(0, 5, (size, 2)),
            errors=rng.integers(0, 3, size).astype(float),
        )

    for evidence in compare(group(n), group(m), hierarchical, rng, 20):
        assert 1 / 21 <= evidence.p <= 1 and np.isfinite([evidence.effect, evidence.null]).all()
