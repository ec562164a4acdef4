"""Cases that hold a decoder of codes to the exhaustive one: ties, rules, odd sizes."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from tesserec.decoders.constraints import Constraints, pack_bits
from tesserec.decoders.exhaustive import Exhaustive
from tesserec.decoders.scorers import CodeScorer

# items, digits, codes a digit, users, k, ties: a table of few whole numbers, else log-probabilities
CASES = [
    (1, 1, 2, 1, 3, True),
    (127, 3, 16, 2, 1, True),
    (700, 7, 16, 1, 2, True),
    (700, 5, 16, 6, 3, True),
    (513, 8, 256, 4, 2, False),
    (700, 4, 300, 2, 20, False),
    (300, 2, 4, 5, 800, True),
]


def make_case(
    items: int, digits: int, size: int, users: int, k: int, ties: bool
) -> tuple[np.ndarray, torch.Tensor, np.random.Generator]:
    rng = np.random.default_rng([items, digits, users])
    codes = rng.integers(0, size, (items, digits)).astype(np.uint8 if size <= 256 else np.uint16)
    if ties:  # items alike, and others with the same sum
        codes = codes[rng.integers(0, max(items // 8, 1), items)]
        return codes, -torch.from_numpy(rng.integers(0, 3, (users, digits, size))).float(), rng
    normal = torch.from_numpy(3 * rng.normal(size=(users, digits, size)))
    return codes, torch.log_softmax(normal, -1).float(), rng


def rules_of(items: int, users: int, rng: np.random.Generator) -> list[Constraints]:
    """No rules, each of those that a kernel sees, all of them, and those above it; seeds too."""

    def rows(share: float) -> list[np.ndarray | None]:
        many = [rng.integers(-1, items + 1, rng.integers(0, items // 4 + 2)) for _ in range(users)]
        return [some if rng.random() < share else None for some in many]

    allowed, quota = pack_bits(rng.random(items) < 0.6), pack_bits(rng.random(items) < 0.3)
    group = rng.integers(-1, 9, items).astype(np.int32)
    seeds = [int(rng.integers(0, 2**31)) if rng.random() < 0.7 else None for _ in range(users)]
    return [
        Constraints(),
        Constraints(allowed=allowed, deny=rows(0.8)),
        Constraints(allowed=allowed, deny=rows(0.7), allow=rows(0.5)),
        Constraints(deny=[np.arange(items)] * users),
        Constraints(deny=rows(0.7), quota=(quota, 3), cap=(group, 2)),
        Constraints(allowed=allowed, allow=rows(0.3), seeds=seeds),
        Constraints(deny=rows(0.7), quota=(quota, 3), cap=(group, 2), seeds=seeds),
    ]


def assert_ranks_as_exhaustive(
    decoder: Any, codes: np.ndarray, state: torch.Tensor, k: int, rng: np.random.Generator
) -> None:
    """To the bit, on the CPU: `rank` under each rule, and `target_ranks`."""
    exhaustive = Exhaustive(CodeScorer(codes, state.shape[2]))
    for rules in rules_of(len(codes), len(state), rng):
        expected = exhaustive.rank(state.cpu(), k, rules)
        for mine, other in zip(decoder.rank(state, k, rules), expected, strict=True):
            np.testing.assert_array_equal(mine, other)
    targets = rng.integers(-1, len(codes), len(state))
    seen = [np.unique(rng.integers(0, len(codes), rng.integers(0, 40))) for _ in targets]
    expected = exhaustive.target_ranks(state.cpu(), targets, seen)
    for mine, other in zip(decoder.target_ranks(state, targets, seen), expected, strict=True):
        np.testing.assert_array_equal(mine, other)
