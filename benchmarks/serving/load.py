"""A closed-loop load of gRPC requests, in a process of its own.

Each of so many callers asks anew when it was answered.

    python load.py HOST:PORT MODEL CONCURRENCY SECONDS < requests

Standard input holds one JSON object: `users` (asked in turns), `k`, `rules`. Prints one JSON
object: requests/s, latencies in ms, errors. The messages are made before the clock starts, so that
the generator costs little beside the server.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from typing import Any

import grpc
import numpy as np
from tritonclient.grpc import service_pb2

METHOD = "/inference.GRPCInferenceService/ModelInfer"
WARM = 0.2  # of the seconds: not counted
TIMEOUT_S = 60.0


def message(model: str, user: str, k: int, rules: str) -> bytes:
    """One serialised ModelInferRequest for a user."""
    request: Any = service_pb2.ModelInferRequest(model_name=model)  # pyright: ignore[reportAttributeAccessIssue]
    values: dict[str, tuple[str, list[int], bytes]] = {
        "user_id": ("BYTES", [1, 1], text(user)),
        "history": ("BYTES", [1, 1], text("")),
        "k": ("INT32", [1, 1], np.int32(k).tobytes()),
        "rules": ("BYTES", [1, 1], text(rules)),
    }
    for name, (kind, shape, raw) in values.items():
        request.inputs.add(name=name, datatype=kind, shape=shape)
        request.raw_input_contents.append(raw)
    return request.SerializeToString()


def text(value: str) -> bytes:
    """A BYTES element: its length and itself."""
    raw = value.encode()
    return len(raw).to_bytes(4, "little") + raw


async def run(
    url: str, model: str, concurrency: int, seconds: float, asked: dict[str, Any]
) -> dict[str, Any]:
    messages = [message(model, u, asked["k"], asked.get("rules", "")) for u in asked["users"]]
    options = [("grpc.enable_http_proxy", 0)]
    async with grpc.aio.insecure_channel(url, options=options) as channel:
        call = channel.unary_unary(METHOD)
        latencies: list[float] = []
        errors: dict[str, int] = {}
        started = time.perf_counter()
        counted_from, until = started + WARM * seconds, started + seconds

        async def caller(first: int) -> None:
            place = first
            while (began := time.perf_counter()) < until:
                try:
                    await call(messages[place % len(messages)], timeout=TIMEOUT_S)
                except grpc.aio.AioRpcError as error:
                    errors[error.code().name] = errors.get(error.code().name, 0) + 1
                else:
                    if began >= counted_from:
                        latencies.append(time.perf_counter() - began)
                place += concurrency

        await asyncio.gather(*(caller(first) for first in range(concurrency)))
        spent = time.perf_counter() - counted_from
    quantiles = (
        np.quantile(latencies, (0.5, 0.95, 0.99)) * 1000 if latencies else [float("nan")] * 3
    )
    return {
        "per_second": len(latencies) / spent,
        **dict(zip(("p50_ms", "p95_ms", "p99_ms"), map(float, quantiles), strict=True)),
        "answers": len(latencies),
        "errors": errors,
    }


if __name__ == "__main__":
    url, model, concurrency, seconds = sys.argv[1:5]
    asked = json.load(sys.stdin)
    print(json.dumps(asyncio.run(run(url, model, int(concurrency), float(seconds), asked))))
