"""The scan against the exhaustive decoder, which is held to brute force: equal to the bit."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tesserec.decoders import make, making, scan, scan_tables
from tesserec.decoders.constraints import Constraints, pack_bits
from tesserec.decoders.exhaustive import Exhaustive
from tesserec.decoders.scan import Scan
from tesserec.decoders.scan_tables import quantise
from tesserec.decoders.scorers import CodeScorer
from tesserec.errors import TesserecError, UsageError
from tesserec.models.rpg import RPG, Shape

Case = tuple[np.ndarray, torch.Tensor, int, Constraints, np.random.Generator]


def table(kind: str, shape: tuple[int, ...], rng: np.random.Generator) -> torch.Tensor:
    """Tables that try the bound: with ties, without spread, far from zero, of all magnitudes."""
    normal = rng.normal(size=shape)
    values = {
        "integers": -rng.integers(0, 3, shape),
        "constant": np.full(shape, -1.5),
        "log": torch.log_softmax(torch.from_numpy(3 * normal), -1).numpy(),
        "far": 1e6 + normal,
        "wide": -(10.0 ** (6 * normal)),
        "one digit": normal * (np.arange(shape[1])[:, None] == 0) * 100 + normal * 1e-3,
    }[kind]
    return torch.from_numpy(values.astype(np.float32))


@st.composite
def cases(draw: st.DrawFn) -> Case:
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    items = draw(st.sampled_from([1, 2, 63, 64, 255, 256, 257, 700]))
    digits, users = draw(st.sampled_from([1, 2, 5, 32, 64])), draw(st.sampled_from([1, 2, 9, 70]))
    size = draw(st.sampled_from([2, 16, 256, 300]))
    kinds = ["integers", "constant", "log", "far", "wide", "one digit"]
    state = table(draw(st.sampled_from(kinds)), (users, digits, size), rng)
    wide = size > 256 or draw(st.booleans())
    codes = rng.integers(0, size, (items, digits)).astype(np.uint16 if wide else np.uint8)
    if draw(st.booleans()):  # many items alike
        codes = codes[rng.integers(0, max(items // 8, 1), items)]

    def some_rows(share: float) -> list[np.ndarray | None]:
        many = [rng.integers(-1, items + 1, rng.integers(0, items + 1)) for _ in range(users)]
        return [rows if rng.random() < share else None for rows in many]

    rules = Constraints(
        allowed=pack_bits(rng.random(items) < 0.6) if draw(st.booleans()) else None,
        deny=some_rows(0.7) if draw(st.booleans()) else None,
        allow=some_rows(0.4) if draw(st.booleans()) else None,
        quota=(pack_bits(rng.random(items) < 0.3), 3) if draw(st.booleans()) else None,
        cap=(rng.integers(-1, 9, items).astype(np.int32), 2) if draw(st.booleans()) else None,
    )
    return codes, state, draw(st.sampled_from([1, 2, 10, 50, 800])), rules, rng


def assert_same(found: tuple[np.ndarray, ...], expected: tuple[np.ndarray, ...]) -> None:
    for mine, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(mine, other)


@settings(max_examples=150, deadline=None)
@given(cases(), st.sampled_from([1, 3]))
def test_rank_is_that_of_the_exhaustive_decoder(case: Case, threads: int) -> None:
    codes, state, k, rules, _ = case
    size = state.shape[2]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scan, "THREAD_WORK", 1)
        patch.setattr(scan.torch, "get_num_threads", lambda: threads)
        found = Scan(codes, size).rank(state, k, rules)
        plain = Scan(codes, size).rank(state, k, replace(rules, quota=None, cap=None))
    exhaustive = Exhaustive(CodeScorer(codes, size))
    assert_same(found, exhaustive.rank(state, k, rules))
    assert_same(plain, exhaustive.rank(state, k, replace(rules, quota=None, cap=None)))


@settings(max_examples=100, deadline=None)
@given(cases(), st.sampled_from([1, 3]))
def test_target_ranks_are_those_of_the_exhaustive_decoder(case: Case, threads: int) -> None:
    codes, state, _, _, rng = case
    items, size = len(codes), state.shape[2]
    targets = rng.integers(-1, items, len(state))
    seen = [np.unique(rng.integers(0, items, rng.integers(0, 40))) for _ in targets]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scan, "THREAD_WORK", 1)
        patch.setattr(scan.torch, "get_num_threads", lambda: threads)
        found = Scan(codes, size).target_ranks(state, targets, seen)
    assert_same(found, Exhaustive(CodeScorer(codes, size)).target_ranks(state, targets, seen))


@settings(max_examples=100, deadline=None)
@given(cases())
def test_bounds_hold_on_both_sides(case: Case) -> None:
    codes, state, *_ = case
    values = state.numpy()
    out, bounds = np.zeros(values.shape, np.uint8), np.empty((len(values), 3))
    quantise(values, out, bounds)
    digit = np.arange(codes.shape[1])
    scores = np.zeros((len(values), len(codes)), np.float32)
    for j in digit:
        scores += values[:, j, codes[:, j]]
    sums = out[:, digit, codes].sum(-1, dtype=np.int64)
    step, lower, upper = bounds.T[:, :, None]
    assert sums.max() < 65_535
    assert (lower + step * sums <= scores).all() and (scores <= upper + step * sums).all()


def test_served_alone_or_with_others_an_item_scores_the_same() -> None:
    rng = np.random.default_rng(5)
    codes = rng.integers(0, 256, (3000, 32)).astype(np.uint8)
    state = table("log", (64, 32, 256), rng)
    decoder = Scan(codes, 256)
    together = decoder.rank(state, 20)
    for user in range(64):
        alone = decoder.rank(state[user : user + 1], 20)
        assert_same(alone, (together[0][user : user + 1], together[1][user : user + 1]))


def test_more_digits_than_a_sum_of_full_bytes_could_hold() -> None:
    rng = np.random.default_rng(6)
    codes, state = rng.integers(0, 4, (300, 400)).astype(np.uint8), table("log", (2, 400, 4), rng)
    exhaustive = Exhaustive(CodeScorer(codes, 4))
    assert_same(Scan(codes, 4).rank(state, 10), exhaustive.rank(state, 10))


def test_nobody_asks_or_nothing_is_there() -> None:
    state = torch.zeros(2, 3, 4)
    empty = Scan(np.zeros((0, 3), np.uint8), 4)
    assert empty.rank(state, 2)[0].tolist() == [[-1, -1]] * 2
    assert empty.target_ranks(state, np.array([-1, -1]), [np.array([])] * 2)[0].tolist() == [0, 0]
    some = Scan(np.zeros((5, 3), np.uint8), 4)
    assert some.rank(torch.zeros(0, 3, 4), 2)[0].shape == (0, 2)
    some.warm()


def test_what_it_refuses() -> None:
    decoder = Scan(np.zeros((5, 2), np.uint8), 4)
    for bad in (torch.nan, torch.inf, -torch.inf):
        state = torch.zeros(2, 2, 4)
        state[1, 1, 3] = bad
        with pytest.raises(TesserecError, match="not finite"):
            decoder.rank(state, 1)
    with pytest.raises(TesserecError, match="k is 0"):
        decoder.rank(torch.zeros(1, 2, 4), 0)
    with pytest.raises(TesserecError, match="deny"):
        decoder.rank(torch.zeros(2, 2, 4), 1, Constraints(deny=[None]))
    with pytest.raises(UsageError, match="runs on the CPU, not on cuda"):
        decoder.to(torch.device("cuda"))


@pytest.mark.skipif("NUMBA_CPU_NAME" in os.environ, reason="is in such a process")
def test_the_same_on_a_machine_without_wide_registers() -> None:
    environment = os.environ | {"NUMBA_CPU_NAME": "generic", "NUMBA_CPU_FEATURES": ""}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-x", __file__]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]


def test_the_best_decoder_that_can_be_had(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    codes = np.zeros((5, 2), np.uint8)
    model = RPG(Shape(digits=2, codebook_size=4, dim=8, layers=1, heads=1, ffn=8), codes)
    assert isinstance(make("auto", model, codes), Scan)
    making._has.cache_clear()
    monkeypatch.setattr(making, "find_spec", lambda name: None)
    assert [type(make("auto", model, codes)) for _ in range(3)] == [Exhaustive] * 3
    assert [r.message.count("numba isn't installed") for r in caplog.records] == [1]
    with pytest.raises(UsageError, match="needs numba"):
        make("scan", model, codes)
    with pytest.raises(UsageError, match="scan reads codes"):
        make("scan", model, None)
    making._has.cache_clear()


def test_compiled_without_a_folder_to_keep_it_in(monkeypatch: pytest.MonkeyPatch) -> None:
    compile_: Any = scan_tables.njit

    def nowhere(**options: Any) -> Any:
        if options.get("cache"):
            raise RuntimeError("cannot cache function: no locator available")
        return compile_(**options)

    monkeypatch.setattr(scan_tables, "njit", nowhere)
    assert scan_tables.kernel(lambda x: x + 1)(2) == 3


def test_all_that_is_compiled_can_do_without_that_folder() -> None:
    rooms = Path(scan_tables.__file__).parent.glob("*.py")
    assert [path.name for path in rooms if "njit" in path.read_text()] == ["scan_tables.py"]


def test_compiled_code_of_other_sources_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """numba's own stamp is of one file; a change in a file that it imports has to count too."""
    kept = scan_tables.finite._cache._cache_file
    assert kept._source_stamp == scan_tables._sources()
    assert scan_tables.finite(np.zeros(3, np.int32))
    assert kept._load_index()  # there is compiled code of these sources
    monkeypatch.setattr(kept, "_source_stamp", "others")
    assert not kept._load_index()
