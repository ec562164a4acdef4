"""A constant load of gRPC requests that keeps every different answer, in a process of its own.

    python steady.py HOST:PORT MODEL CONCURRENCY SECONDS

The first line of standard input is one JSON object: `users` (asked in turns) and `k`. It ends when
standard input does, or after so many seconds. Prints a line `answers N` a second, and at the end
one JSON object: `requests`, `errors` by code, `latency_ms`, `longest_ms`, and `answers`: each
different `[user, release, source, items, scores, times given]`.
"""

from __future__ import annotations

import asyncio
import json
import sys
import threading
import time
from typing import Any

import grpc
import numpy as np
from load import METHOD, TIMEOUT_S, message
from tritonclient.grpc import service_pb2


async def run(url: str, model: str, callers: int, seconds: float, asked: dict[str, Any]) -> Any:
    users = asked["users"]
    messages = [message(model, user, asked["k"], "") for user in users]
    stop = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), stop.set()), daemon=True).start()
    answers: dict[tuple[int, bytes], int] = {}
    errors: dict[str, int] = {}
    latencies: list[float] = []
    until = time.perf_counter() + seconds
    async with grpc.aio.insecure_channel(url, options=[("grpc.enable_http_proxy", 0)]) as channel:
        call = channel.unary_unary(METHOD)

        async def caller(place: int) -> None:
            while not stop.is_set() and (began := time.perf_counter()) < until:
                user = place % len(users)
                try:
                    raw = await call(messages[user], timeout=TIMEOUT_S)
                except grpc.aio.AioRpcError as error:
                    code = f"{error.code().name}: {error.details()}"[:200]
                    errors[code] = errors.get(code, 0) + 1
                else:
                    answers[user, raw] = answers.get((user, raw), 0) + 1
                latencies.append(time.perf_counter() - began)
                place += callers

        async def tell() -> None:
            while not stop.is_set():
                print("answers", len(latencies), flush=True)
                await asyncio.sleep(1)

        telling = asyncio.create_task(tell())
        await asyncio.gather(*(caller(first) for first in range(callers)))
        telling.cancel()
    p50, p95, p99 = (1000 * float(np.quantile(latencies, q)) for q in (0.5, 0.95, 0.99))
    return {
        "requests": len(latencies),
        "errors": errors,
        "latency_ms": {"p50": p50, "p95": p95, "p99": p99},
        "longest_ms": 1000 * max(latencies),
        "answers": [[users[user], *parsed(raw), times] for (user, raw), times in answers.items()],
    }


def parsed(raw: bytes) -> list[Any]:
    """[release, source, items, scores] of a serialised answer."""
    response: Any = service_pb2.ModelInferResponse.FromString(raw)  # pyright: ignore[reportAttributeAccessIssue]
    found = dict(zip([o.name for o in response.outputs], response.raw_output_contents, strict=True))
    scores = np.frombuffer(found["score"], np.float32).tolist()
    (release,), (source,) = strings(found["release_id"]), strings(found["source"])
    return [release, source, strings(found["item_id"]), scores]


def strings(raw: bytes) -> list[str]:
    """BYTES elements: each a length and itself."""
    found, place = [], 0
    while place < len(raw):
        length = int.from_bytes(raw[place : place + 4], "little")
        found.append(raw[place + 4 : place + 4 + length].decode())
        place += 4 + length
    return found


if __name__ == "__main__":
    url, model, callers, seconds = sys.argv[1:5]
    wanted = json.loads(sys.stdin.readline())
    print(json.dumps(asyncio.run(run(url, model, int(callers), float(seconds), wanted))))
