"""The scan on a CUDA device, as it is compiled there, against the exhaustive decoder on the CPU."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from tesserec.decoders.exhaustive import Exhaustive
from tesserec.decoders.scorers import CodeScorer
from tests.fakes.decoding import CASES, assert_ranks_as_exhaustive, make_case

pytest.importorskip("triton")
from tesserec.decoders.scan_gpu import ScanGPU

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]
LARGE = [(100_000, 32, 256, 70, 10, False), (20_000, 32, 256, 9, 50, True)]


@pytest.mark.parametrize("case", CASES + LARGE, ids=str)
def test_it_ranks_as_the_exhaustive_decoder(case: Any) -> None:
    codes, state, rng = make_case(*case)
    cuda = torch.device("cuda")
    decoder = ScanGPU(codes, case[2]).to(cuda)
    decoder.warm()
    assert_ranks_as_exhaustive(decoder, codes, state.to(cuda), case[4], rng)


@pytest.mark.parametrize("case", CASES + LARGE, ids=str)
def test_the_exhaustive_decoder_is_the_same_on_both(case: Any) -> None:
    codes, state, _ = make_case(*case)
    cuda = torch.device("cuda")
    scorer = CodeScorer(codes, case[2])
    expected = Exhaustive(scorer).rank(state, case[4])
    found = Exhaustive(scorer).to(cuda).rank(state.to(cuda), case[4])
    for mine, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(mine, other)
