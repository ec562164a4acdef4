"""An open-loop load of gRPC requests: sent at a rate, whether the server keeps up or not.

    python open_loop.py HOST:PORT MODEL DEADLINE_S HOLD RATE:SECONDS [RATE:SECONDS ...] < requests

Standard input is that of load.py. Prints one JSON list, an object a phase. It writes HTTP/2 by
hand, as a gRPC client in Python costs more a request than a server that refuses it: a request and
its answer cost the generator some 20 us. Each has `DEADLINE_S`, is cancelled then, and tells the
server so; of those that can't be sent (too many under way) the number is told. With HOLD 1 it holds
requests back while many are refused, as our clients do (HELD_BACK), with 0 it does not.
"""

from __future__ import annotations

import json
import select
import socket
import struct
import sys
import time
from collections import Counter, deque
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from load import METHOD, message
from tritonclient.grpc import service_pb2

from tesserec.serving.connection import QUEUE_SHARE
from tesserec.serving.throttle import Throttle

CONNECTIONS = 4
AT_ONCE = 4096
DATA, HEADERS, RESET, SETTINGS, PING, GOAWAY, WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
END_STREAM, ACK, END_HEADERS = 1, 1, 4
LARGE = 2**31 - 1
CODES = {0: "OK", 3: "INVALID_ARGUMENT", 4: "DEADLINE_EXCEEDED", 13: "INTERNAL", 14: "UNAVAILABLE"}
# No compression table, so that trailers come in plain text; windows that never fill.
SETTINGS_BODY = struct.pack(">HIHI", 1, 0, 4, LARGE)


@dataclass
class Phase:
    """What came back of one phase's requests."""

    asked: int = 0
    unsent: int = 0
    codes: Counter[str] = field(default_factory=Counter)
    good: list[tuple[float, float]] = field(default_factory=list)  # when it came, seconds it took
    rejected: list[float] = field(default_factory=list)
    late_failure: float = 0.0  # when the last request was due that was not answered well

    def report(self, began: float, seconds: float) -> dict[str, Any]:
        ends = np.sort([at for at, _ in self.good if at < began + seconds])
        gaps = np.diff(np.concatenate([[began], ends, [began + seconds]]))
        return {
            "seconds": seconds,
            "asked_per_second": self.asked / seconds,
            "good_per_second": len(ends) / seconds,
            "codes": dict(self.codes),
            "unsent": self.unsent,
            "good_ms": _quantiles([took for _, took in self.good]),
            "rejected_ms": _quantiles(self.rejected),
            "longest_without_an_answer_ms": 1000 * float(gaps.max()),
            "all_good_after_s": max(self.late_failure - began, 0.0),
        }


class Connection:
    """One HTTP/2 connection; its streams are requests under way."""

    def __init__(self, url: str, ended: Any) -> None:
        host, _, port = url.rpartition(":")
        self.socket = socket.create_connection((host, int(port)), 10)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.setblocking(False)
        self.open: dict[int, tuple[Phase, float]] = {}
        self._ended, self._in, self._next, self._window = ended, b"", 1, 65535
        window = _frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", LARGE - 65535))
        self.out = bytearray(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        self.out += _frame(SETTINGS, 0, 0, SETTINGS_BODY) + window
        plain = {4: METHOD, 1: url, 31: "application/grpc"}
        block = b"\x83\x86" + b"".join(_literal(name, text) for name, text in plain.items())
        self._head = block + b"\x00\x02te\x08trailers"

    def send(self, body: bytes, phase: Phase, due: float) -> int | None:
        """Start a request; returns its stream, or None if the server takes no more bytes now."""
        if self._window < len(body):
            return None
        stream, self._next = self._next, self._next + 2
        self._window -= len(body)
        self.out += _frame(HEADERS, END_HEADERS, stream, self._head)
        self.out += _frame(DATA, END_STREAM, stream, body)
        self.open[stream] = phase, due
        return stream

    def cancel(self, stream: int) -> None:
        self.out += _frame(RESET, 0, stream, struct.pack(">I", 8))
        self._ended(self, stream, 4)

    def flush(self) -> None:
        if self.out:
            with suppress(BlockingIOError):
                del self.out[: self.socket.send(self.out)]

    def receive(self) -> None:
        try:
            data = self.socket.recv(1 << 18)
        except BlockingIOError:
            return
        if not data:
            raise SystemExit("the server closed a connection")
        data, place = self._in + data, 0
        while len(data) - place >= 9:
            size = int.from_bytes(data[place : place + 3], "big")
            if len(data) - place - 9 < size:
                break
            kind, flags = data[place + 3], data[place + 4]
            stream = int.from_bytes(data[place + 5 : place + 9], "big")
            place += 9
            if kind != DATA:
                self._take(kind, flags, stream, data[place : place + size])
            place += size
        self._in = data[place:]

    def _take(self, kind: int, flags: int, stream: int, body: bytes) -> None:
        if kind == HEADERS and flags & END_STREAM:
            at = body.index(b"grpc-status") + 11
            self._ended(self, stream, int(body[at + 1 : at + 1 + body[at]]))
        elif kind == RESET:
            self._ended(self, stream, 1)
        elif kind == WINDOW_UPDATE and stream == 0:
            self._window += int.from_bytes(body, "big")
        elif kind in (SETTINGS, PING) and not flags & ACK:
            self.out += _frame(kind, ACK, 0, body if kind == PING else b"")
        elif kind == GOAWAY:
            raise SystemExit(f"the server said go away: {body[8:]!r}")


def run(
    url: str,
    model: str,
    deadline_s: float,
    hold: bool,
    phases: list[tuple[float, float]],
    asked: Any,
) -> Any:
    """The report of each phase, of a rate and so many seconds."""
    throttle = Throttle()
    told: Any = service_pb2.ModelInferRequest()  # pyright: ignore[reportAttributeAccessIssue]
    told.parameters["timeout"].int64_param = int(deadline_s * QUEUE_SHARE * 1e6)
    bodies = []
    for user in asked["users"]:
        body = message(model, user, asked["k"], asked.get("rules", "")) + told.SerializeToString()
        bodies.append(b"\x00" + struct.pack(">I", len(body)) + body)

    def ended(connection: Connection, stream: int, code: int) -> None:
        entry = connection.open.pop(stream, None)
        if entry is None:  # it was cancelled meanwhile
            return
        phase, due = entry
        throttle.count(taken=code not in (4, 14))
        now = time.perf_counter()
        phase.codes[CODES.get(code, str(code))] += 1
        if code == 0:
            phase.good.append((now, now - due))
        else:
            phase.late_failure = max(phase.late_failure, due)
            if code != 4:
                phase.rejected.append(now - due)

    connections = [Connection(url, ended) for _ in range(CONNECTIONS)]
    waiting: deque[tuple[float, Connection, int]] = deque()
    place = 0

    def turn(pause_s: float) -> None:
        writing = [c.socket for c in connections if c.out]
        ready, _, _ = select.select([c.socket for c in connections], writing, [], pause_s)
        for connection in connections:
            if connection.socket in ready:
                connection.receive()
        while waiting and waiting[0][0] + deadline_s < time.perf_counter():
            _, connection, stream = waiting.popleft()
            if stream in connection.open:
                connection.cancel(stream)
        for connection in connections:
            connection.flush()

    for _ in range(20):  # settings are exchanged
        turn(0.01)
    results = []
    for rate, seconds in phases:
        phase, began = Phase(), time.perf_counter()
        results.append((phase, began, seconds))
        while (now := time.perf_counter()) < began + seconds:
            while (due := began + phase.asked / rate) <= now:
                phase.asked += 1
                place += 1
                connection = connections[place % CONNECTIONS]
                if hold and not throttle.admits():
                    phase.codes["HELD_BACK"] += 1
                    phase.late_failure = due
                    continue
                full = sum(len(c.open) for c in connections) >= AT_ONCE
                body = bodies[place % len(bodies)]
                stream = None if full else connection.send(body, phase, due)
                if stream is None:
                    phase.unsent += 1
                    phase.late_failure = due
                else:
                    waiting.append((due, connection, stream))
            turn(min(max(due - time.perf_counter(), 0), 0.005))
    until = time.perf_counter() + 2 * deadline_s
    while any(c.open for c in connections) and time.perf_counter() < until:
        turn(0.005)
    return [phase.report(began, seconds) for phase, began, seconds in results]


def _frame(kind: int, flags: int, stream: int, body: bytes) -> bytes:
    return struct.pack(">I", len(body))[1:] + struct.pack(">BBI", kind, flags, stream) + body


def _literal(name: int, text: str) -> bytes:
    """A header that is not put into a table; `name`: its number in HTTP/2's list."""
    number = bytes([name]) if name < 15 else bytes([15, name - 15])
    return number + bytes([len(text)]) + text.encode()


def _quantiles(seconds: list[float]) -> dict[str, float]:
    if not seconds:
        return {}
    found = np.quantile(seconds, (0.5, 0.95, 0.99, 1.0)) * 1000
    return dict(zip(("p50", "p95", "p99", "longest"), map(float, found), strict=True))


if __name__ == "__main__":
    url, model, deadline_s, hold, *phases = sys.argv[1:]
    pairs = [(float(rate), float(seconds)) for rate, seconds in (p.split(":") for p in phases)]
    print(json.dumps(run(url, model, float(deadline_s), hold == "1", pairs, json.load(sys.stdin))))
