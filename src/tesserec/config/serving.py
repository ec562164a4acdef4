"""What a server is told: `tesserec serve [SERVE.yaml] [a.b=1 ...]` (docs/serving.md)."""

from __future__ import annotations

from dataclasses import dataclass, field

from tesserec.config.change import ChangeSettings
from tesserec.config.checks import check
from tesserec.config.sight import ExposureSettings, TraceSettings


@dataclass(frozen=True, kw_only=True)
class LookupSettings:
    """Reading a user's features within a request."""

    budget_ms: float = 20.0  # a batch waits no longer for the online store
    stale_mib: int = 64  # of users' rows remembered for when the store doesn't answer; 0: none

    def __post_init__(self) -> None:
        check(
            0 < self.budget_ms <= 10_000,
            "features.budget_ms",
            self.budget_ms,
            "use above 0, to 10000",
        )
        check(self.stale_mib >= 0, "features.stale_mib", self.stale_mib, "use 0 or more (MiB)")


@dataclass(frozen=True, kw_only=True)
class LimitSettings:
    """What the server takes, of one request and at once; beyond it requests are refused."""

    k: int = 1000  # items of an answer
    history: int = 1000  # items of a request's own history
    rule_entries: int = 10_000  # entries of allow, and of deny
    queue: int = 128  # requests waiting (a quarter of a second's); more are refused at once
    queue_mib: int = 64  # what they and the batch in work hold; more are refused at once
    queue_ms: float = 1000.0  # one that waited so long is refused instead of answered
    batch: int = 64
    batch_delay_us: int = 0  # a request waits no longer for others to make a batch with
    shm_mib: int = 256  # between server and model; a larger message is refused

    def __post_init__(self) -> None:
        # 50: as many as a rehearsal compares
        check(50 <= self.k <= 100_000, "limits.k", self.k, "use 50 to 100000")
        check(self.history >= 1, "limits.history", self.history, "use at least 1")
        check(self.rule_entries >= 1, "limits.rule_entries", self.rule_entries, "use at least 1")
        check(self.queue >= 1, "limits.queue", self.queue, "use at least 1")
        check(self.queue_mib >= 1, "limits.queue_mib", self.queue_mib, "use at least 1 (MiB)")
        check(1 <= self.queue_ms <= 60_000, "limits.queue_ms", self.queue_ms, "use 1 to 60000 (ms)")
        check(1 <= self.batch <= 4096, "limits.batch", self.batch, "use 1 to 4096")
        check(
            0 <= self.batch_delay_us <= 1_000_000,
            "limits.batch_delay_us",
            self.batch_delay_us,
            "use 0 to 1000000 (microseconds)",
        )
        check(self.shm_mib >= 16, "limits.shm_mib", self.shm_mib, "use at least 16 (MiB)")


@dataclass(frozen=True, kw_only=True)
class TLSSettings:
    """TLS of the gRPC service, from PEM files; without `cert` there is none."""

    cert: str = ""  # the server's certificate, its chain after it
    key: str = ""
    client_ca: str = ""  # clients must show a certificate that this one signed; empty: any client

    def __post_init__(self) -> None:
        for name in ("cert", "key"):
            other = "key" if name == "cert" else "cert"
            wanted = bool(getattr(self, other) or self.client_ca)
            check(
                bool(getattr(self, name)) or not wanted, f"tls.{name}", "empty", "name a PEM file"
            )


@dataclass(frozen=True, kw_only=True)
class ServeSettings:
    """Everything a server is told."""

    threads: int = 1  # of torch
    features: LookupSettings = field(default_factory=LookupSettings)
    limits: LimitSettings = field(default_factory=LimitSettings)
    tls: TLSSettings = field(default_factory=TLSSettings)
    exposure: ExposureSettings = field(default_factory=ExposureSettings)
    trace: TraceSettings = field(default_factory=TraceSettings)
    change: ChangeSettings = field(default_factory=ChangeSettings)

    def __post_init__(self) -> None:
        check(self.threads >= 1, "threads", self.threads, "use at least 1")
