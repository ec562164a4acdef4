"""The gRPC clients, one for threads and one for asyncio (docs/clients.md)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from typing import Any

from tesserec.errors import need
from tesserec.serving.connection import TLS, Attempts, arguments
from tesserec.serving.exchange import (
    MODEL_NAME,
    Answer,
    answer_of,
    check_call,
    failure,
    held_back,
    inputs_of,
    may_try_again,
    told_of,
)
from tesserec.serving.throttle import Throttle

RETRIES = 2
KEEPALIVE_S = 30.0  # our server allows pings this often; 0: none


class Recommender:
    """A connection to one server; threads may share it, processes may not (make it after a fork).

    Args:
        url: `host:port` of the server's gRPC service.
        timeout_s: seconds that a call may take with all its retries, the server's queue included.
            The server is told, and drops a request that still waits at that time.
        retries: attempts after the first one, of requests that the server did not take on.
        tls: files for a server with TLS; None: plain text.
        keepalive_s: seconds between pings that tell a dead connection; 0: none.
    """

    def __init__(
        self,
        url: str,
        *,
        timeout_s: float = 5.0,
        retries: int = RETRIES,
        tls: TLS | None = None,
        keepalive_s: float = KEEPALIVE_S,
    ) -> None:
        try:
            from tritonclient.grpc import InferenceServerClient
        except ImportError:
            raise need("tritonclient", "client") from None
        check_call(url, timeout_s, retries)
        self.url, self.timeout_s, self.retries = url, timeout_s, retries
        self._throttle = Throttle()
        self._client = InferenceServerClient(**arguments(url, tls, keepalive_s))

    def __enter__(self) -> Recommender:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection; the client is not usable after it."""
        self._client.close()
        # Its __del__ closes once more, which fails in an interpreter that is shutting down.
        del self._client

    def ready(self) -> bool:
        """Whether the server answers and the model is loaded."""
        from tritonclient.utils import InferenceServerException

        try:
            return bool(self._client.is_model_ready(MODEL_NAME, client_timeout=self.timeout_s))
        except InferenceServerException:
            return False

    def recommend(
        self,
        *,
        user_id: str = "",
        history: Sequence[str] = (),
        k: int = 10,
        rules: Mapping[str, Any] | None = None,
    ) -> Answer:
        """The k best items for a user or a history, with the rules of docs/serving.md.

        Raises:
            RequestError: this request is refused (the message says why).
            ServingError: the server did not answer in time, is overloaded (then the request may not
                have been sent at all), or not there.
        """
        from tritonclient.utils import InferenceServerException

        inputs = inputs_of(user_id, history, k, rules)
        attempts = Attempts(self.timeout_s, self.retries)
        while True:
            if not self._throttle.admits():
                raise held_back(self.url)
            try:
                result = self._client.infer(MODEL_NAME, inputs, **attempts.times())
                self._throttle.count(taken=True)
                return answer_of(result)
            except InferenceServerException as error:
                told_of(self._throttle, error)
                pause = attempts.pause_s() if may_try_again(error) else None
                if pause is None:
                    raise failure(error, self.url, self.timeout_s) from None
            time.sleep(pause)


class AsyncRecommender:
    """`Recommender` for asyncio: the same arguments, answers and errors; one event loop uses it."""

    def __init__(
        self,
        url: str,
        *,
        timeout_s: float = 5.0,
        retries: int = RETRIES,
        tls: TLS | None = None,
        keepalive_s: float = KEEPALIVE_S,
    ) -> None:
        try:
            from tritonclient.grpc.aio import InferenceServerClient
        except ImportError:
            raise need("tritonclient", "client") from None
        check_call(url, timeout_s, retries)
        self.url, self.timeout_s, self.retries = url, timeout_s, retries
        self._throttle = Throttle()
        self._client = InferenceServerClient(**arguments(url, tls, keepalive_s))

    async def __aenter__(self) -> AsyncRecommender:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connection; the client is not usable after it."""
        await self._client.close()

    async def ready(self) -> bool:
        """Whether the server answers and the model is loaded."""
        from tritonclient.utils import InferenceServerException

        try:
            ready = self._client.is_model_ready(MODEL_NAME, client_timeout=self.timeout_s)
            return bool(await ready)
        except InferenceServerException:
            return False

    async def recommend(
        self,
        *,
        user_id: str = "",
        history: Sequence[str] = (),
        k: int = 10,
        rules: Mapping[str, Any] | None = None,
    ) -> Answer:
        """As `Recommender.recommend`; cancelling the task cancels the request at the server."""
        from tritonclient.utils import InferenceServerException

        inputs = inputs_of(user_id, history, k, rules)
        attempts = Attempts(self.timeout_s, self.retries)
        while True:
            if not self._throttle.admits():
                raise held_back(self.url)
            try:
                result = await self._client.infer(MODEL_NAME, inputs, **attempts.times())
                self._throttle.count(taken=True)
                return answer_of(result)
            except InferenceServerException as error:
                told_of(self._throttle, error)
                pause = attempts.pause_s() if may_try_again(error) else None
                if pause is None:
                    raise failure(error, self.url, self.timeout_s) from None
            await asyncio.sleep(pause)
