"""What keeping codes fresh is told (docs/retokenization.md)."""

from __future__ import annotations

from dataclasses import dataclass, field

from tesserec.config.checks import check


@dataclass(frozen=True, kw_only=True)
class TuningConfig:
    """How a trained model goes on, on the newest block of events."""

    epochs: int = 3  # of the block
    learning_rate: float = 0.0005  # constant
    replay: float = 0.1  # older targets for each of the block

    def __post_init__(self) -> None:
        where = "retokenization.tuning, or .rebuild"
        check(self.epochs >= 1, f"{where}.epochs", self.epochs, "use at least 1")
        check(
            self.learning_rate > 0,
            f"{where}.learning_rate",
            self.learning_rate,
            "use more than 0",
        )
        check(0 <= self.replay <= 1, f"{where}.replay", self.replay, "use a share from 0 to 1")


@dataclass(frozen=True, kw_only=True)
class BudgetConfig:
    """Most churn of one `maintain`; of parallel codes shares of digits, else of whole tuples."""

    items: float = 0.05
    impressions: float = 0.02

    def __post_init__(self) -> None:
        for name in ("items", "impressions"):
            share: float = getattr(self, name)
            where = f"retokenization.budget.{name}"
            check(0 <= share <= 1, where, share, "use a share from 0 to 1")


@dataclass(frozen=True, kw_only=True)
class RetokenizationConfig:
    """Codes and a model that stay fresh."""

    budget: BudgetConfig = field(default_factory=BudgetConfig)
    slack: float = 0.25  # a code stays if its error is within so much of the best one's
    passes: int = 5  # over the items, from the centres as they are
    tuning: TuningConfig = field(default_factory=TuningConfig)
    rebuild: TuningConfig = field(  # over all events: most codes mean something else
        default_factory=lambda: TuningConfig(epochs=12, learning_rate=0.002, replay=0.0)
    )
    # after a rebuild the codes from before count too; decoding is exhaustive as long as they do
    aliases: bool = True
    canary: float = 0.0  # share of the users whom a rebuilt release answers at first; 0: all

    def __post_init__(self) -> None:
        check(0 <= self.canary < 1, "retokenization.canary", self.canary, "use a share from 0 to 1")
        check(self.slack >= 0, "retokenization.slack", self.slack, "use 0 or more")
        check(self.passes >= 0, "retokenization.passes", self.passes, "use 0 or more")
