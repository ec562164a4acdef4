"""The scan for GPUs without one: by Triton's interpreter, and compiled for cards that aren't here.

The interpreter has to be chosen before Triton is imported; so it runs in a process of its own.
"""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch

from tesserec.decoders import make, making
from tesserec.decoders.constraints import Constraints
from tesserec.decoders.exhaustive import Exhaustive
from tesserec.errors import ArtifactError, TesserecError, UsageError
from tesserec.models.rpg import RPG, Shape
from tests.fakes.decoding import CASES, assert_ranks_as_exhaustive, make_case

pytest.importorskip("triton")
from tesserec.decoders import scan_gpu, scan_gpu_kernels
from tesserec.decoders.scan_gpu import ScanGPU

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
interpreted = pytest.mark.skipif(not INTERPRETED, reason="run by the interpreter, in a process")
compiled = pytest.mark.skipif(INTERPRETED, reason="run by the compiler")


@compiled
def test_by_the_interpreter() -> None:
    environment = os.environ | {"TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-x", __file__]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=550)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
    assert f"{len(CASES) + 4} passed" in done.stdout


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several blocks of several tiles in a catalogue that the interpreter can walk through."""
    monkeypatch.setattr(scan_gpu, "BLOCK", 64)
    monkeypatch.setattr(scan_gpu_kernels, "TILE", 32)
    monkeypatch.setattr(scan_gpu, "CANDIDATES", 300)


@interpreted
@pytest.mark.parametrize("case", CASES, ids=str)
def test_it_ranks_as_the_exhaustive_decoder(case: Any, small: None) -> None:
    codes, state, rng = make_case(*case)
    assert_ranks_as_exhaustive(ScanGPU(codes, case[2]), codes, state, case[4], rng)


@interpreted
def test_served_alone_or_with_others_an_item_scores_the_same(small: None) -> None:
    codes, state, _ = make_case(300, 6, 16, 5, 10, False)
    decoder = ScanGPU(codes, 16)
    rows, scores = decoder.rank(state, 10)
    for user in range(5):
        alone = decoder.rank(state[user : user + 1], 10)
        np.testing.assert_array_equal(alone[0][0], rows[user])
        np.testing.assert_array_equal(alone[1][0], scores[user])


@interpreted
def test_nobody_asks_or_nothing_is_there() -> None:
    empty = ScanGPU(np.zeros((0, 3), np.uint8), 4)
    assert empty.rank(torch.zeros(2, 3, 4), 2)[0].tolist() == [[-1, -1]] * 2
    empty.warm()
    some = ScanGPU(np.zeros((5, 3), np.uint8), 4)
    assert some.rank(torch.zeros(0, 3, 4), 2)[0].shape == (0, 2)
    ranks = some.target_ranks(torch.zeros(2, 3, 4), np.array([-1, -1]), [np.array([])] * 2)
    assert [part.tolist() for part in ranks] == [[0, 0], [0, 0]]
    some.warm()


@interpreted
def test_what_it_refuses() -> None:
    decoder = ScanGPU(np.zeros((5, 2), np.uint8), 4)
    for bad in (torch.nan, torch.inf, -torch.inf):
        state = torch.zeros(2, 2, 4)
        state[1, 1, 3] = bad
        with pytest.raises(TesserecError, match="not finite"):
            decoder.rank(state, 1)
    with pytest.raises(TesserecError, match="k is 0"):
        decoder.rank(torch.zeros(1, 2, 4), 0)
    with pytest.raises(TesserecError, match="deny"):
        decoder.rank(torch.zeros(2, 2, 4), 1, Constraints(deny=[None]))
    with pytest.raises(TesserecError, match="belong together"):
        decoder.rank(torch.zeros(1, 2, 8), 1)
    with pytest.raises(UsageError, match="runs on a GPU, not on cpu"):
        decoder.to(torch.device("cpu"))
    with pytest.raises(ArtifactError, match=r"holds 4, its codebooks end at 3"):
        ScanGPU(np.full((5, 2), 4, np.uint8), 4)


@interpreted
def test_the_largest_with_equal_scores_and_signs() -> None:
    scores = torch.tensor([[-1.0, 0.0, -0.0, 2.0, 2.0, -torch.inf, 1e-45, -1e-45]])
    assert scan_gpu._leading(scores, 8).tolist() == [[3, 4, 6, 1, 2, 7, 0, 5]]


@compiled
@pytest.mark.parametrize("card", [80, 90])
@pytest.mark.parametrize("side", [1, scan_gpu_kernels.SIDE])
def test_kernels_compile_for_cards(card: int, side: int) -> None:
    """Not all that the interpreter runs compiles. Neither codes nor tables wait for a barrier."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    codes = scan_gpu_kernels.words_of(np.zeros((1, 16), np.uint8), scan_gpu.BLOCK)
    tables = scan_gpu_kernels.side_by_side(torch.zeros(side, 16, 256), codes)
    sizes = scan_gpu_kernels.sizes(codes, tables)
    types = {"words": "*i32", "tables": "*fp32", "open_": "*u8", "own": "*fp32", "out": "*fp32"}
    types |= {"target": "*i64", "users": "*i64", "rows": "*i64"}
    for kernel in (
        scan_gpu_kernels._maxima,
        scan_gpu_kernels._ahead,
        scan_gpu_kernels._of_rows,
    ):
        names = kernel.arg_names
        signature = {n: "constexpr" if n in sizes else types.get(n, "i32") for n in names}
        if kernel is scan_gpu_kernels._ahead:
            signature["out"] = "*i32"
        aligned = [(i,) for i, name in enumerate(names) if signature[name].startswith("*")]
        source = ASTSource(
            kernel, signature, sizes, {at: [["tt.divisibility", 16]] for at in aligned}
        )
        made = triton.compile(source, target=GPUTarget("cuda", card, 32))
        assert made.asm["cubin"]
        assert made.asm["ptx"].count("bar.sync") <= 6
        if side > 1 and kernel is not scan_gpu_kernels._of_rows:
            assert made.asm["ptx"].count("ld.global.v4.b32") >= 16


@compiled
def test_auto_takes_the_scan_that_fits_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    codes = np.zeros((5, 2), np.uint8)
    model = RPG(Shape(digits=2, codebook_size=4, dim=8, layers=1, heads=1, ffn=8), codes)
    with pytest.raises(UsageError, match="runs on a GPU"):
        make("scan_gpu", model, codes)
    monkeypatch.setattr(ScanGPU, "to", lambda self, device: self)
    monkeypatch.setitem(making.SCANS, "cpu", making.SCANS["cuda"])
    assert isinstance(make("auto", model, codes), ScanGPU)
    monkeypatch.setattr(making, "_has", lambda library: library != "triton")
    assert isinstance(make("auto", model, codes), Exhaustive)
    with pytest.raises(UsageError, match="scan_gpu needs triton"):
        make("scan_gpu", model, codes)
