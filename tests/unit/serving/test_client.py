"""Both clients against a gRPC server that says what a test tells it to."""

from __future__ import annotations

import asyncio
import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import grpc
import numpy as np
import pytest
from tritonclient.grpc import service_pb2, service_pb2_grpc

from tesserec.errors import RequestError, ServingError, UsageError
from tesserec.serving import connection
from tesserec.serving.client import AsyncRecommender, Recommender
from tesserec.serving.connection import TLS, Attempts, arguments
from tesserec.serving.exchange import Answer, failure, inputs_of, may_try_again
from tesserec.serving.wire import TRY_LATER

PB: Any = service_pb2
Code = grpc.StatusCode
Call = Callable[..., Any]


def text(value: str) -> bytes:
    raw = value.encode()
    return len(raw).to_bytes(4, "little") + raw


def reply(user: str) -> Any:
    """An answer that names the user as its release."""
    found = PB.ModelInferResponse(model_name="recommend")
    texts = {"release_id": user, "source": "model", "reason": "", "explain": '{"history": ["I0"]}'}
    values = {"item_id": ([1, 2], text("I1") + text("I2ü"))}
    values |= {name: ([1, 1], text(value)) for name, value in texts.items()}
    for name, (shape, raw) in values.items():
        found.outputs.add(name=name, datatype="BYTES", shape=shape)
        found.raw_output_contents.append(raw)
    found.outputs.add(name="score", datatype="FP32", shape=[1, 2])
    found.raw_output_contents.append(np.array([-1, -2.5], np.float32).tobytes())
    return found


class Server(service_pb2_grpc.GRPCInferenceServiceServicer):
    """Fails with each of `codes` in turn, then answers; keeps what came and when."""

    def __init__(self) -> None:
        self.codes: list[grpc.StatusCode] = []
        self.told = "as told"
        self.delay_s = 0.0
        self.answer = reply
        self.seen: list[tuple[float, Any, float]] = []  # when, the request, its time left
        self.peers: set[str] = set()
        self.cancelled = threading.Event()  # or answered

    def ModelInfer(self, request: Any, context: grpc.ServicerContext) -> Any:
        self.seen.append((time.monotonic(), request, context.time_remaining() or -1))
        self.peers.add(context.peer())
        context.add_callback(self.cancelled.set)
        if self.codes:
            context.abort(self.codes.pop(0), self.told)
        time.sleep(self.delay_s)
        (user,) = [
            raw[4:].decode()
            for tensor, raw in zip(request.inputs, request.raw_input_contents, strict=True)
            if tensor.name == "user_id"
        ]
        return self.answer(user)

    def ModelReady(self, request: Any, context: grpc.ServicerContext) -> Any:
        return PB.ModelReadyResponse(ready=request.name == "recommend")


@pytest.fixture
def server() -> Iterator[Server]:
    told = Server()
    running = grpc.server(ThreadPoolExecutor(8))
    service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(told, running)
    told.url = f"127.0.0.1:{running.add_insecure_port('127.0.0.1:0')}"  # type: ignore[attr-defined]
    running.start()
    yield told
    running.stop(0).wait(5)


@pytest.fixture(params=("threads", "asyncio"))
def ask(request: pytest.FixtureRequest, server: Any) -> Call:
    """One request by the client in question: `ask({"timeout_s": 2}, user_id="U1")`."""

    def plain(client: dict[str, Any], **asked: Any) -> Answer:
        with Recommender(client.pop("url", server.url), **client) as opened:
            return opened.recommend(**asked)

    async def awaited(client: dict[str, Any], **asked: Any) -> Answer:
        async with AsyncRecommender(client.pop("url", server.url), **client) as opened:
            return await opened.recommend(**asked)

    if request.param == "threads":
        return plain
    return lambda client, **asked: asyncio.run(awaited(client, **asked))


def test_the_request_and_the_typed_answer(server: Server, ask: Call) -> None:
    answer = ask({"timeout_s": 5}, user_id="Uß", history=["I1"], k=7, rules={"seed": 1})
    assert answer.item_ids == ["I1", "I2ü"] and answer.scores == [-1.0, -2.5]
    assert (answer.release_id, answer.source, answer.reason) == ("Uß", "model", "")
    assert answer.history == ["I0"]
    (_, request, left), *others = server.seen
    assert not others and request.model_name == "recommend"
    names = [tensor.name for tensor in request.inputs]
    raws = dict(zip(names, request.raw_input_contents, strict=True))
    assert raws["history"] == text("I1") and raws["k"] == b"\x07\0\0\0"
    assert json.loads(raws["rules"][4:]) == {"seed": 1}
    # Both sides know when it is too late, the server first; gRPC rounds the deadline that it sends
    # up to three digits.
    assert 4 < left < 5.02 and 4e6 < request.parameters["timeout"].int64_param <= 4.5e6


@pytest.mark.parametrize(
    "code", [Code.INVALID_ARGUMENT, Code.NOT_FOUND, Code.INTERNAL, Code.CANCELLED]
)
def test_only_unavailable_is_tried_again(server: Server, ask: Call, code: Any) -> None:
    server.codes = [code]
    kind = RequestError if code in (Code.INVALID_ARGUMENT, Code.NOT_FOUND) else ServingError
    with pytest.raises(kind, match="as told"):
        ask({}, user_id="U1")
    assert len(server.seen) == 1


def test_an_overloaded_server_is_asked_again(server: Server, ask: Call) -> None:
    server.codes = [Code.UNAVAILABLE, Code.UNAVAILABLE]
    assert ask({"timeout_s": 5}, user_id="U1").release_id == "U1"
    assert len(server.seen) == 3
    times = [request.parameters["timeout"].int64_param for _, request, _ in server.seen]
    assert times == sorted(times, reverse=True) and times[2] < times[0]  # what is left


@pytest.mark.parametrize("retries", [0, 1])
def test_no_more_retries_than_asked_for(server: Server, ask: Call, retries: int) -> None:
    server.codes = [Code.UNAVAILABLE] * 5
    with pytest.raises(ServingError, match="did not answer"):
        ask({"retries": retries}, user_id="U1")
    assert len(server.seen) == 1 + retries


def test_the_deadline_holds_for_all_attempts(
    server: Server, ask: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection.random, "uniform", lambda low, high: high)
    server.codes = [Code.UNAVAILABLE] * 50
    began = time.monotonic()
    with pytest.raises(ServingError):
        ask({"timeout_s": 0.5, "retries": 40}, user_id="U1")
    assert time.monotonic() - began < 2  # 40 doubled pauses would take centuries
    assert 2 <= len(server.seen) <= 6  # 0.02 + 0.04 + 0.08 + 0.16 s, and no time for 0.32
    gaps = np.diff([at for at, *_ in server.seen])
    assert all(gap >= 0.02 * 2**n for n, gap in enumerate(gaps))


def test_a_slow_answer_is_not_waited_for(server: Server, ask: Call) -> None:
    server.delay_s = 1.0
    began = time.monotonic()
    with pytest.raises(ServingError, match=r"within 0\.2 s"):
        ask({"timeout_s": 0.2}, user_id="U1")
    assert server.cancelled.wait(0.6)  # the server is told, before it would have been done
    assert time.monotonic() - began < 0.95 and len(server.seen) == 1


def test_an_overloaded_server_is_spared(server: Any) -> None:
    server.told, server.codes = TRY_LATER, [Code.UNAVAILABLE] * 300
    with Recommender(server.url, retries=0) as client:
        errors = []
        for _ in range(100):
            with pytest.raises(ServingError) as caught:
                client.recommend(user_id="U1")
            errors.append(str(caught.value))
    spared = [e for e in errors if "was not sent" in e]
    assert len(spared) + len(server.seen) == 100 and len(server.seen) < 60, len(server.seen)


def test_a_server_that_is_gone_is_asked_each_time(server: Any) -> None:
    server.codes = [Code.UNAVAILABLE] * 100  # without the words of a full queue
    with Recommender(server.url, retries=0) as client:
        for _ in range(100):
            with pytest.raises(ServingError, match="as told"):
                client.recommend(user_id="U1")
    assert len(server.seen) == 100


@pytest.mark.parametrize("scheme", ["http", "https", "grpc"])
def test_an_address_of_http_is_no_address(scheme: str) -> None:
    with pytest.raises(UsageError, match="wants host:port alone, here h:8001"):
        Recommender(f"{scheme}://h:8001")


@pytest.mark.parametrize(
    ("said", "hint"),
    [
        ("failed to connect to all addresses; last error: Socket closed", "name ca, cert and key"),
        ("failed to connect; SSL_ERROR_SSL: WRONG_VERSION_NUMBER", "the server has no TLS"),
        ("failed to connect; CERTIFICATE_VERIFY_FAILED", "name the right one"),
    ],
)
def test_what_to_do_about_tls(said: str, hint: str) -> None:
    error = SimpleNamespace(status=lambda: "StatusCode.UNAVAILABLE", message=lambda: said)
    told = str(failure(error, "h:1", 1))
    assert told.startswith("h:1 did not answer: ") and hint in told and said in told


def test_pauses_are_drawn_and_end_before_the_deadline() -> None:
    pauses = [Attempts(100, 3).pause_s() for _ in range(50)]
    assert len(set(pauses)) > 10 and all(0 <= (pause or 0) <= 0.02 for pause in pauses)
    assert Attempts(100, 0).pause_s() is None
    assert Attempts(0.0, 3).pause_s() is None


def test_nobody_there(ask: Call) -> None:
    began = time.monotonic()
    with pytest.raises(ServingError, match=r"127\.0\.0\.1:1 did not answer"):
        ask({"url": "127.0.0.1:1", "timeout_s": 5})
    assert time.monotonic() - began < 4


def test_what_cannot_be_written_is_not_sent(server: Server, ask: Call) -> None:
    for asked in ({"user_id": "\ud800"}, {"k": 2**31}, {"rules": {"allow": {1, 2}}}):
        with pytest.raises(RequestError, match="can't be written"):
            ask({}, **asked)
    assert not server.seen


def test_another_servers_answer_is_no_answer(server: Server, ask: Call) -> None:
    server.answer = lambda user: PB.ModelInferResponse(model_name=user)
    with pytest.raises(ServingError, match="another version"):
        ask({}, user_id="U1")


def test_settings_that_make_no_sense() -> None:
    for made in (Recommender, AsyncRecommender):
        for settings in ({"timeout_s": 0}, {"timeout_s": float("nan")}, {"retries": -1}):
            with pytest.raises(UsageError):
                made("127.0.0.1:1", **settings)  # pyright: ignore[reportArgumentType]
    with pytest.raises(UsageError, match="go together"):
        TLS(cert="me.pem")
    with pytest.raises(UsageError, match="there is no file"):
        TLS(ca="/nowhere/ca.pem")


def test_pings_are_as_asked_for() -> None:
    options = dict(arguments("far:1", None, 30.0)["channel_args"])
    assert options["grpc.keepalive_time_ms"] == 30_000
    assert options["grpc.keepalive_permit_without_calls"] == 1
    assert "grpc.enable_http_proxy" not in options
    options = dict(arguments("localhost:1", None, 0)["channel_args"])
    assert "grpc.keepalive_time_ms" not in options and options["grpc.enable_http_proxy"] == 0


def test_threads_share_one_connection(server: Any) -> None:
    users = [f"U{n}" for n in range(100)]
    with Recommender(server.url) as client, ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda user: client.recommend(user_id=user).release_id, users))
        assert client.ready()
    assert found == users and len(server.peers) == 1


def test_tasks_share_one_connection_and_can_be_cancelled(server: Any) -> None:
    async def run() -> list[str]:
        async with AsyncRecommender(server.url) as client:
            answers = await asyncio.gather(*(client.recommend(user_id=f"U{n}") for n in range(50)))
            server.delay_s = 1.0
            task = asyncio.create_task(client.recommend(user_id="late"))
            await asyncio.sleep(0.2)
            server.cancelled.clear()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert await asyncio.to_thread(server.cancelled.wait, 0.6)  # it would take 0.8
            assert await client.ready()
            return [answer.release_id for answer in answers]

    assert asyncio.run(run()) == [f"U{n}" for n in range(50)]
    assert len(server.peers) == 1


def test_not_ready_where_nobody_is() -> None:
    async def ready() -> bool:
        async with AsyncRecommender("127.0.0.1:1", timeout_s=1) as client:
            return await client.ready()

    with Recommender("127.0.0.1:1", timeout_s=1) as client:
        assert not client.ready()
    assert not asyncio.run(ready())


@pytest.mark.parametrize(
    ("wrong", "part"),
    [
        ({"user_id": 5}, "user_id is 5"),
        ({"history": "I000010"}, "history is 'I000010'"),
        ({"history": [None]}, "history is [None]"),
        ({"k": "3"}, "k is '3'"),
        ({"k": True}, "k is True"),
        ({"rules": '{"seed": 1}'}, "rules are"),
    ],
)
def test_what_is_no_request_is_named_before_it_is_sent(wrong: dict[str, Any], part: str) -> None:
    asked = {"user_id": "U1", "history": [], "k": 3, "rules": None} | wrong
    with pytest.raises(RequestError, match=re.escape(part)):
        inputs_of(**asked)


def test_a_server_without_its_model_is_no_fault_of_the_request() -> None:
    message = "Request for unknown model: 'recommend' has no available versions"
    error = SimpleNamespace(status=lambda: "StatusCode.NOT_FOUND", message=lambda: message)
    assert may_try_again(error)
    assert isinstance(failure(error, "here:1", 1.0), ServingError)
