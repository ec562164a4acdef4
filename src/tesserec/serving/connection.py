"""How a client reaches a server: address, TLS, keep-alive, deadline and retries."""

from __future__ import annotations

import random
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tesserec.errors import UsageError
from tesserec.serving.server_file import read_server_file

FIRST_PAUSE_S = 0.02  # before the first retry at most so long, then twice as long each time
# The server shall give up first: a request that is cancelled at its deadline costs it more than one
# that it refuses, and thousands a second make Triton 2.51 abort (docs/serving.md).
QUEUE_SHARE = 0.9
SMALLEST_S = 0.001  # less time than this is no time for an attempt


@dataclass(frozen=True, kw_only=True)
class TLS:
    """PEM files of a client; `cert` and `key` are its own, for servers that ask for them.

    Without `ca` the server's certificate is checked against the roots that gRPC brings along.
    """

    ca: str | None = None
    cert: str | None = None
    key: str | None = None

    def __post_init__(self) -> None:
        if bool(self.cert) != bool(self.key):
            raise UsageError("a client's certificate and its key go together; name both files")
        for path in (self.ca, self.cert, self.key):
            if path and not Path(path).is_file():
                raise UsageError(f"there is no file {path}; name a PEM file")


def arguments(url: str, tls: TLS | None, keepalive_s: float) -> dict[str, Any]:
    """What tritonclient's two clients are made with."""
    found: dict[str, Any] = {"url": url, "channel_args": _channel(url, keepalive_s)}
    if tls is not None:
        files = {"root_certificates": tls.ca, "certificate_chain": tls.cert, "private_key": tls.key}
        found |= {"ssl": True, **files}
    return found


def find_server(workdir: Path) -> tuple[str, TLS | None]:
    """Address and TLS of the server that runs for this working folder (none of its secrets).

    Raises:
        ServingError: none was started, or it is gone.
    """
    info = read_server_file(workdir)
    tls = info.get("tls")
    return info["grpc"], TLS(ca=tls["ca"]) if tls else None


class Attempts:
    """The attempts of one call, and the time that they have together."""

    def __init__(self, seconds: float, retries: int) -> None:
        self._end = time.monotonic() + seconds
        self._made, self._retries = 0, retries

    def times(self) -> dict[str, Any]:
        """What is left, for this side (seconds) and for the server's queue (microseconds)."""
        left_s = max(self._end - time.monotonic(), SMALLEST_S)
        return {"client_timeout": left_s, "timeout": int(left_s * QUEUE_SHARE * 1e6)}

    def pause_s(self) -> float | None:
        """Seconds until the next attempt, drawn; None if there is none."""
        pause = random.uniform(0, FIRST_PAUSE_S * 2**self._made)
        if self._made >= self._retries or self._end - time.monotonic() - pause < SMALLEST_S:
            return None
        self._made += 1
        return pause


def _channel(url: str, keepalive_s: float) -> list[tuple[str, int]]:
    options = [
        ("grpc.max_send_message_length", -1),  # no limit
        ("grpc.max_receive_message_length", -1),
        # A server that was restarted is found again within a second, not within two minutes.
        ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.min_reconnect_backoff_ms", 1000),
        ("grpc.max_reconnect_backoff_ms", 1000),
    ]
    if keepalive_s:
        options += [
            ("grpc.keepalive_time_ms", int(1000 * keepalive_s)),
            ("grpc.keepalive_timeout_ms", 10_000),
            ("grpc.keepalive_permit_without_calls", 1),
            ("grpc.http2.max_pings_without_data", 0),
        ]
    if url.rpartition(":")[0] in ("127.0.0.1", "localhost", "[::1]"):
        options.append(("grpc.enable_http_proxy", 0))  # a proxy knows nothing of this machine
    return options
