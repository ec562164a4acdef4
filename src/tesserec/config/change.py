"""When a server goes back from a new release by itself (docs/releases.md)."""

from __future__ import annotations

from dataclasses import dataclass

from tesserec.config.checks import check


@dataclass(frozen=True, kw_only=True)
class ChangeSettings:
    """Bands that a new release must stay in, beside the one before it."""

    requests: int = 200  # answers from which on a band counts
    error_rate: float = 0.01  # share of requests that fail, above that of the other release
    latency_ratio: float = 2.0  # p95 of the time of a batch, to that of the other release
    agreement: float = 0.02  # mean share of equal items in both answers; 0: none needed
    grace_s: float = 300.0  # so long a promoted release is watched and the former one kept

    def __post_init__(self) -> None:
        check(self.requests >= 1, "change.requests", self.requests, "use at least 1")
        check(0 <= self.error_rate <= 1, "change.error_rate", self.error_rate, "use 0 to 1")
        check(self.latency_ratio >= 1, "change.latency_ratio", self.latency_ratio, "use 1 or more")
        check(0 <= self.agreement <= 1, "change.agreement", self.agreement, "use 0 to 1")
        check(self.grace_s >= 0, "change.grace_s", self.grace_s, "use 0 or more seconds")
