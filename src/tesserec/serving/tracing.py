"""Traces of requests: Triton's own OpenTelemetry exporter, told by flags."""

from __future__ import annotations

from tesserec.config import TraceSettings

SERVICE = "tesserec"


def trace_flags(settings: TraceSettings) -> list[str]:
    """Of the server's command line; none without a collector, and then a trace costs nothing."""
    if not settings.url:
        return []
    return [
        "--trace-config=mode=opentelemetry",
        "--trace-config=level=TIMESTAMPS",
        f"--trace-config=rate={settings.rate}",
        f"--trace-config=opentelemetry,url={settings.url}",
        f"--trace-config=opentelemetry,resource=service.name={SERVICE}",
    ]
