"""What a server is told: `tesserec serve [SERVE.yaml] [a.b=1 ...]` (docs/serving.md)."""

from __future__ import annotations

from dataclasses import dataclass, field

from tesserec.config.checks import check


@dataclass(frozen=True, kw_only=True)
class LookupSettings:
    """Reading a user's features within a request."""

    budget_ms: float = 20.0  # a batch waits no longer for the online store
    stale_users: int = 100_000  # rows remembered for when the store doesn't answer; 0: none

    def __post_init__(self) -> None:
        check(
            0 < self.budget_ms <= 10_000,
            "features.budget_ms",
            self.budget_ms,
            "use above 0, to 10000",
        )
        check(self.stale_users >= 0, "features.stale_users", self.stale_users, "use 0 or more")


@dataclass(frozen=True, kw_only=True)
class ServeSettings:
    """Everything a server is told."""

    threads: int = 1  # of torch
    features: LookupSettings = field(default_factory=LookupSettings)

    def __post_init__(self) -> None:
        check(self.threads >= 1, "threads", self.threads, "use at least 1")
