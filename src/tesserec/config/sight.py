"""What a server tells about itself: the exposure log and traces (docs/operations.md)."""

from __future__ import annotations

from dataclasses import dataclass

from tesserec.config.checks import check


@dataclass(frozen=True, kw_only=True)
class ExposureSettings:
    """The log of what was shown."""

    share: float = 0.1  # of the answers that are logged, chosen by chance; 0: none
    flush_s: float = 30.0  # so many seconds are lost at most when the server is killed
    max_mb: float = 1000.0  # on disk, of all servers of a working folder; the oldest hours go

    def __post_init__(self) -> None:
        check(0 <= self.share <= 1, "exposure.share", self.share, "use 0 to 1")
        check(0 < self.flush_s <= 3600, "exposure.flush_s", self.flush_s, "use above 0, to 3600")
        check(self.max_mb >= 1, "exposure.max_mb", self.max_mb, "use at least 1")


@dataclass(frozen=True, kw_only=True)
class TraceSettings:
    """OpenTelemetry traces of requests."""

    url: str = ""  # of a collector of OTLP over HTTP: http://host:4318/v1/traces; empty: no traces
    rate: int = 1000  # one request of so many

    def __post_init__(self) -> None:
        known = not self.url or self.url.startswith(("http://", "https://"))
        check(known, "trace.url", self.url, "use http://HOST:4318/v1/traces")
        check(self.rate >= 1, "trace.rate", self.rate, "use at least 1")
