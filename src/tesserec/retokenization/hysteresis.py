"""Old items keep their codes while these still fit, and the rest moves within a budget.

After it the table, not the tokenizer, is authoritative for old items: `encode` may disagree.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from tesserec.retokenization.budget import Budget, Spending, by_worth

SLACK = 0.25


@dataclass(frozen=True, kw_only=True)
class Refresh:
    """What becomes of the codes of old items under a new tokenizer."""

    codes: np.ndarray  # [N, m]
    wished: int  # changes before the budget: items, or digits of parallel codes
    made: int


def refresh(
    tokenizer: Any,
    vectors: np.ndarray,
    old: np.ndarray,
    slack: float = SLACK,
    shown: np.ndarray | None = None,
    budget: Budget | None = None,
) -> Refresh:
    """New codes of items whose codes `old` [N, m] another tokenizer gave.

    A code stays if its error under the new centres is within (1 + `slack`) of the best code's:
    the whole tuple of hierarchical codes, each digit of parallel ones. 0 is the plain refresh, all
    codes new; infinity keeps all. Of the rest the largest benefit an impression (`shown` [N]; None:
    alike) moves first, until the budget is spent; None: all move.
    """
    new = tokenizer.encode(vectors)
    wish, benefit = wishes(tokenizer, vectors, old, new, slack)
    rows, digits = np.nonzero(wish)
    made = np.arange(len(rows))
    if budget is not None:
        weight = np.ones(len(old)) if shown is None else np.asarray(shown, dtype=np.float64)
        order = by_worth(benefit[rows, digits], weight[rows])
        spending = Spending(budget, weight, old.shape[1], tokenizer.hierarchical)
        made = order[: spending.affordable(rows[order])]
    codes = old.copy()
    if tokenizer.hierarchical:
        codes[rows[made]] = new[rows[made]]
    else:
        codes[rows[made], digits[made]] = new[rows[made], digits[made]]
    return Refresh(codes=codes, wished=len(rows), made=len(made))


def wishes(
    tokenizer: Any, vectors: np.ndarray, old: np.ndarray, new: np.ndarray, slack: float
) -> tuple[np.ndarray, np.ndarray]:
    """Tuples [N, 1] or digits [N, m] that should change, and the error that each saves."""
    if tokenizer.hierarchical:
        differs = (old != new).any(axis=1)[:, None]
        before = tokenizer.errors(vectors, old)[:, None]
        after = tokenizer.errors(vectors, new)[:, None]
    else:
        differs = old != new
        before = tokenizer.digit_errors(vectors, old)
        after = tokenizer.digit_errors(vectors, new)
    benefit = before.astype(np.float64) - after
    if slack == 0:  # greedy codes are not always the best ones, yet 0 means them
        return differs, benefit
    if np.isinf(slack):
        return np.zeros_like(differs), benefit
    return differs & (before > (1 + slack) * after.astype(np.float64)), benefit
