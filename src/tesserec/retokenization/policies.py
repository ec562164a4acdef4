"""Ways to take new items in, from keeping every code to making all anew.

| policy | new items | old items | tokenizer |
|---|---|---|---|
| frozen | encoded | keep their codes | stays |
| ema | encoded | encoded anew | centres drift towards new items, batch by batch |
| warm | encoded | encoded anew | Lloyd passes over all items |
| hysteresis | encoded | keep what fits, move within the budget | as warm |
| rebuild | encoded | encoded anew | fitted anew |
| aligned | encoded | encoded anew | as rebuild, each digit's codes renamed |
| paths | encoded | encoded anew | as rebuild, renamed along paths (hierarchical codes alone) |
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tesserec.encoders.rowwise import nearest
from tesserec.errors import UsageError
from tesserec.retokenization.alignment import hungarian, renamed
from tesserec.retokenization.budget import Budget
from tesserec.retokenization.churn import Churn, churn
from tesserec.retokenization.hysteresis import SLACK, refresh
from tesserec.retokenization.paths import along_paths
from tesserec.tokenizers.lloyd import means

PASSES = 5
_BATCH, _DECAY = 256, 0.9  # of ema: items at once, and what a centre keeps of itself


@dataclass(frozen=True, kw_only=True)
class State:
    """What there is before an update."""

    tokenizer: Any
    vectors: np.ndarray  # [N, D] of the old items
    codes: np.ndarray  # [N, m]: the table, which may differ from what the tokenizer would give
    shown: np.ndarray | None = None  # [N] impressions; None: alike


@dataclass(frozen=True, kw_only=True)
class Limits:
    """How far `hysteresis` goes."""

    passes: int = PASSES  # of Lloyd over all items; `warm` too
    slack: float = SLACK
    budget: Budget | None = field(default_factory=Budget)


@dataclass(frozen=True, kw_only=True)
class Update:
    """What there is after it."""

    tokenizer: Any
    old: np.ndarray  # codes [N, m] of the old items
    new: np.ndarray  # codes [n, m] of the new ones
    churn: Churn  # of the old items


def update(
    policy: str,
    state: State,
    new: np.ndarray,
    rng: np.random.Generator,
    limits: Limits | None = None,
) -> Update:
    """The policy's codes of old items and of new ones with vectors `new` [n, D].

    Only the policies that fit anew draw from `rng`.

    Raises:
        UsageError: an unknown policy, or `paths` for parallel codes.
    """
    if policy not in POLICIES:
        raise UsageError(f"policy is {policy!r}; use one of {', '.join(POLICIES)}")
    tokenizer, old = POLICIES[policy](state, new, rng, limits or Limits())
    return Update(
        tokenizer=tokenizer,
        old=old,
        new=tokenizer.encode(new),
        churn=churn(state.codes, old, state.shown),
    )


def _frozen(
    state: State, new: np.ndarray, rng: np.random.Generator, limits: Limits
) -> tuple[Any, np.ndarray]:
    del new, rng, limits
    return state.tokenizer, state.codes


def _ema(
    state: State, new: np.ndarray, rng: np.random.Generator, limits: Limits
) -> tuple[Any, np.ndarray]:
    del rng, limits
    tokenizer = state.tokenizer
    for start in range(0, len(new), _BATCH):
        tokenizer = tokenizer.relearned(new[start : start + _BATCH], _towards)
    return tokenizer, tokenizer.encode(state.vectors)


def _towards(x: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """Centres that go a tenth of the way to the mean of what is nearest to them."""
    return _DECAY * centres + (1 - _DECAY) * means(x, nearest(x, centres), centres)


def _warm(
    state: State, new: np.ndarray, rng: np.random.Generator, limits: Limits
) -> tuple[Any, np.ndarray]:
    del rng
    tokenizer = state.tokenizer.warm(np.concatenate([state.vectors, new]), limits.passes)
    return tokenizer, tokenizer.encode(state.vectors)


def _hysteresis(
    state: State, new: np.ndarray, rng: np.random.Generator, limits: Limits
) -> tuple[Any, np.ndarray]:
    del rng
    tokenizer = state.tokenizer.warm(np.concatenate([state.vectors, new]), limits.passes)
    found = refresh(tokenizer, state.vectors, state.codes, limits.slack, state.shown, limits.budget)
    return tokenizer, found.codes


def _rebuild(
    state: State, new: np.ndarray, rng: np.random.Generator, limits: Limits
) -> tuple[Any, np.ndarray]:
    del limits
    before = state.tokenizer
    tokenizer = type(before)(before.digits, before.codebook_size, before.iterations)
    tokenizer.fit(np.concatenate([state.vectors, new]), rng)
    return tokenizer, tokenizer.encode(state.vectors)


def _aligned(
    state: State, new: np.ndarray, rng: np.random.Generator, limits: Limits
) -> tuple[Any, np.ndarray]:
    tokenizer, codes = _rebuild(state, new, rng, limits)
    tokenizer = renamed(tokenizer, hungarian(state.codes, codes, tokenizer.centres.shape[1]))
    return tokenizer, tokenizer.encode(state.vectors)


def _paths(
    state: State, new: np.ndarray, rng: np.random.Generator, limits: Limits
) -> tuple[Any, np.ndarray]:
    tokenizer, codes = _rebuild(state, new, rng, limits)
    tokenizer = along_paths(tokenizer, state.codes, codes)
    return tokenizer, tokenizer.encode(state.vectors)


Policy = Callable[[State, np.ndarray, np.random.Generator, Limits], tuple[Any, np.ndarray]]
POLICIES: Mapping[str, Policy] = {
    "frozen": _frozen,
    "ema": _ema,
    "warm": _warm,
    "hysteresis": _hysteresis,
    "rebuild": _rebuild,
    "aligned": _aligned,
    "paths": _paths,
}
