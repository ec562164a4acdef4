"""Hostile requests, as raw gRPC messages, and what a server makes of them among good ones."""

from __future__ import annotations

import json
import re
import struct
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from tritonclient.grpc import service_pb2, service_pb2_grpc

from tesserec.serving.rehearsal import Ranking, difference

PB: Any = service_pb2
KINDS = {"user_id": "BYTES", "history": "BYTES", "k": "INT32", "rules": "BYTES"}
# An answer or a refusal of this request alone; anything else is a fault of the server.
FINE = {"OK", "INVALID_ARGUMENT", "NOT_FOUND"}
AT_ONCE = 32
HEAVY_EVERY = 100


def packed(*texts: bytes) -> bytes:
    """Texts as a BYTES tensor has them: each after its length."""
    return b"".join(struct.pack("<I", len(text)) + text for text in texts)


def message(**changes: Any) -> Any:
    """A good request with changes: `user_id=bytes`, `k_kind=...`, `rules_shape=...`, `drop=...`."""
    raws = {
        "user_id": packed(b"U5"),
        "history": b"",
        "k": struct.pack("<i", 5),
        "rules": packed(b""),
    }
    shapes = {name: (1, 1) for name in KINDS} | {"history": (1, 0)}
    request = PB.ModelInferRequest(model_name="recommend")
    for name, kind in KINDS.items():
        if changes.get("drop") == name:
            continue
        shape = changes.get(f"{name}_shape", shapes[name])
        kind = changes.get(f"{name}_kind", kind)
        request.inputs.add(name=name, datatype=kind, shape=shape)
        request.raw_input_contents.append(changes.get(name, raws[name]))
    return request


def known() -> list[Any]:
    """Refused, all of them: INVALID_ARGUMENT."""
    rules = [b"{", b"[]", b'{"unknown": 1}', b'{"seed": NaN}', b'{"quota_new": -1}', b"[" * 100_000]
    rules += [b'{"allow": ["brand:none"]}', b'{"deny": [%s"b"]}' % (b'"a",' * 20_000), b"\xff\xfe"]
    rules += [b'{"deny": ["\\ud800"]}', b'{"%s": 1}' % (b"x" * 20_000), b"null and void"]
    found = [message(rules=packed(text)) for text in rules]
    found += [message(k=struct.pack("<i", k)) for k in (0, -1, 10**9, -(2**31))]
    found += [message(k=struct.pack("<f", float("nan")), k_kind="FP32"), message(k=b"abc")]
    found += [message(user_id=packed(b"\xff\xfe")), message(user_id=packed(b"U" * 5000))]
    prefixes = (100, 2**32 - 1, 1)  # of two bytes
    found += [message(user_id=struct.pack("<I", length) + b"U5") for length in prefixes]
    found += [message(user_id=b""), message(user_id=b"ab"), message(user_id_shape=(1, 1, 1))]
    for shape in ((1, 3), (1, -1), (1, 2**40), (1, 2**62), (0, 1), (2**32, 2**33)):
        found.append(message(history=packed(b"I001"), history_shape=shape))
    found += [message(drop=name) for name in KINDS]
    found += [message(**{f"{name}_kind": "FP64"}) for name in KINDS]
    two = {f"{name}_shape": (2, 1) for name in ("user_id", "k", "rules")}
    texts = {"user_id": packed(b"U1", b"U2"), "rules": packed(b"", b""), "k": bytes(8)}
    found.append(message(**texts, **two, history=b"", history_shape=(2, 0)))
    return found


def heavy() -> list[Any]:
    """Refused too, but large."""
    million = {"history": packed(b"I1") * 10**6, "history_shape": (1, 10**6)}
    return [message(**million), message(rules=packed(b"x" * (4 << 20)))]


@st.composite
def _random(draw: Any) -> Any:
    changes: dict[str, Any] = {}
    for name in draw(st.sets(st.sampled_from(sorted(KINDS)), min_size=1)):
        texts = st.lists(st.binary(max_size=30), max_size=4).map(lambda t: packed(*t))
        tree = st.recursive(
            st.none() | st.booleans() | st.integers() | st.text(max_size=8),
            lambda inner: (
                st.lists(inner, max_size=3)
                | st.dictionaries(
                    st.sampled_from(("allow", "deny", "k", "seed")), inner, max_size=3
                )
            ),
        )
        as_json = tree.map(lambda t: packed(json.dumps(t).encode()))
        changes[name] = draw(st.one_of(st.binary(max_size=40), texts, as_json))
        if draw(st.booleans()):
            ends = st.integers(-2, 70) | st.sampled_from((2**31, 2**62))
            changes[f"{name}_shape"] = draw(st.lists(ends, max_size=3))
        if draw(st.integers(0, 4)) == 0:
            changes[f"{name}_kind"] = draw(st.sampled_from(("INT64", "BOOL", "FP32", "BYTES", "x")))
    return message(**changes)


def overlong(request: Any) -> bool:
    """Whether a length in its texts reaches beyond the data. Triton 2.51 then refuses the whole
    batch, so that good ones beside it fail too: kept apart from the mixture (docs/serving.md)."""
    for tensor, data in zip(request.inputs, request.raw_input_contents, strict=True):
        while tensor.datatype == "BYTES" and len(data) >= 4:
            (length,) = struct.unpack_from("<I", data)
            if length > len(data) - 4:
                return True
            data = data[4 + length :]
    return False


def drawn(count: int) -> list[Any]:
    """Requests drawn by hypothesis, the same ones each time."""
    found: list[Any] = []

    @seed(1)
    @settings(
        max_examples=count,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )
    @given(_random())
    def collect(request: Any) -> None:
        if not overlong(request):
            found.append(request)

    collect()
    return found[:count]


@dataclass
class Outcome:
    """What came back."""

    codes: Counter[str] = field(default_factory=Counter)  # of the hostile ones
    wrong: list[str] = field(default_factory=list)  # good ones that were not answered right
    faults: list[str] = field(default_factory=list)  # hostile ones answered by no fine code
    good: int = 0


def attack(
    channel: Any,
    hostile: Sequence[Any],
    good: Sequence[tuple[Any, Ranking]],
    outcome: Outcome | None = None,
) -> Outcome:
    """Send hostile and good ones in turns, many at once, each good one with its right answer."""
    stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
    outcome, waiting = outcome or Outcome(), deque[tuple[Any, Ranking | None]]()

    def finish() -> None:
        call, expected = waiting.popleft()
        code = call.code().name
        if expected is None:
            outcome.codes[code] += 1
            if code not in FINE:
                outcome.faults.append(f"{code} {call.details()}"[:300])
            return
        outcome.good += 1
        problem = f"{code} {call.details()}"
        if code == "OK":
            problem = difference(_ranking(call.result()), expected)
        if problem:
            outcome.wrong.append(problem[:300])

    for place, request in enumerate(hostile):
        sent, expected = good[place % len(good)]
        waiting.append((stub.ModelInfer.future(request, timeout=60), None))
        waiting.append((stub.ModelInfer.future(sent, timeout=60), expected))
        while len(waiting) > AT_ONCE:
            finish()
    while waiting:
        finish()
    return outcome


def mixture(count: int) -> list[Any]:
    """So many hostile requests: half drawn, half of the list, now and then a heavy one."""
    random, large = drawn(count // 2), heavy()
    listed = [request for request in known() if not overlong(request)]
    found = []
    for place in range(count):
        if place % HEAVY_EVERY == HEAVY_EVERY - 1:
            found.append(large[place // HEAVY_EVERY % len(large)])
        elif place % 2:
            found.append(listed[place // 2 % len(listed)])
        else:
            found.append(random[place // 2 % len(random)])
    return found


def memory_kib(pid: int) -> dict[str, int]:
    """Resident memory of a server and of what it started, and the shared memory that they hold."""
    pids, resident, files = [pid], 0, set()
    for one in pids:
        for task in Path(f"/proc/{one}/task").glob("*/children"):
            pids += [int(child) for child in task.read_text().split()]
        status = Path(f"/proc/{one}/status").read_text()
        found = re.search(r"VmRSS:\s+(\d+)", status)
        resident += int(found.group(1)) if found else 0
        files |= set(re.findall(r"/dev/shm/\S+", Path(f"/proc/{one}/maps").read_text()))
    shared = sum(Path(name).stat().st_size for name in files if Path(name).exists())
    return {"resident": resident, "shared": shared // 1024, "processes": len(pids)}


def _ranking(reply: Any) -> Ranking:
    raws = dict(zip([out.name for out in reply.outputs], reply.raw_output_contents, strict=True))
    ids, data = [], raws["item_id"]
    while data:
        (length,) = struct.unpack_from("<I", data)
        ids.append(data[4 : 4 + length].decode())
        data = data[4 + length :]
    return Ranking(ids, [score for (score,) in struct.iter_unpack("<f", raws["score"])])
