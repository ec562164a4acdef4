"""How much may change at once, and which of the wished changes that leaves."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tesserec.config.checks import check
from tesserec.retokenization.churn import Churn


@dataclass(frozen=True, kw_only=True)
class Budget:
    """Most churn of one update; for parallel codes both count digits instead of whole tuples."""

    items: float = 0.05
    impressions: float = 0.02

    def __post_init__(self) -> None:
        for name in ("items", "impressions"):
            share: float = getattr(self, name)
            check(0 <= share <= 1, f"budget.{name}", share, "use a share from 0 to 1")


def within(budget: Budget, churn: Churn, hierarchical: bool) -> bool:
    """Whether churn keeps to the budget."""
    if hierarchical:
        return churn.items <= budget.items and churn.impressions <= budget.impressions
    return churn.digits <= budget.items and churn.digit_impressions <= budget.impressions


class Spending:
    """What is left of a budget over `units` things that may change, `shown` [N] impressions.

    A unit is an item's tuple (hierarchical codes) or one of its digits (parallel ones).
    """

    def __init__(self, budget: Budget, shown: np.ndarray, digits: int, hierarchical: bool) -> None:
        self.shown = np.asarray(shown, dtype=np.float64)
        self._each = 1 if hierarchical else digits
        self._units = len(self.shown) * self._each
        self._weight = float(self.shown.sum()) * self._each
        self._budget = budget
        self._changed = 0
        self._paid = 0.0

    def affordable(self, rows: np.ndarray) -> int:
        """How many of the changes of `rows` (one unit each), in this order, the budget takes."""
        changed = self._changed + np.arange(1, len(rows) + 1)
        paid = self._paid + np.cumsum(self.shown[rows])
        ok = changed / max(self._units, 1) <= self._budget.items
        if self._weight > 0:
            ok &= paid / self._weight <= self._budget.impressions
        return int(ok.argmin()) if len(rows) and not ok.all() else len(rows)

    def pay(self, rows: np.ndarray) -> None:
        self._changed += len(rows)
        self._paid += float(self.shown[rows].sum())

    def take(self, rows: np.ndarray) -> bool:
        """Pay for all changes of `rows` together, or for none."""
        if self.affordable(rows) < len(rows):
            return False
        self.pay(rows)
        return True


def by_worth(benefit: np.ndarray, shown: np.ndarray) -> np.ndarray:
    """The order of changes: largest benefit an impression first.

    What nobody is shown costs none and comes first, among itself by benefit; ties: lowest first.
    """
    free = shown <= 0
    worth = np.where(free, benefit, benefit / np.where(free, 1, shown))
    return np.lexsort((-worth, ~free))
