"""The gRPC client: one request a user, with a timeout, and the errors in our own words."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tesserec.errors import RequestError, ServingError, need
from tesserec.serving.server_file import read_server_file
from tesserec.serving.wire import OUTPUTS

MODEL_NAME = "recommend"
# gRPC's code in the client's exception -> the request itself is bad, not the server
BAD_REQUEST = ("INVALID_ARGUMENT", "NOT_FOUND")


@dataclass(frozen=True)
class Answer:
    """What the server recommends to one user; `explain` is empty unless asked for."""

    item_ids: list[str]
    scores: list[float]
    release_id: str
    source: str
    reason: str
    explain: dict[str, Any]

    @property
    def history(self) -> list[str]:
        """The item ids that the answer was made from, oldest first (with `explain` alone)."""
        return list(self.explain.get("history", []))


class Client:
    """A connection to one server; use it from one process (make it after a fork).

    Args:
        url: `host:port` of the server's gRPC service.
        timeout_s: seconds that a call may take, waiting in the server's queue included.
    """

    def __init__(self, url: str, *, timeout_s: float = 5.0) -> None:
        try:
            from tritonclient import grpc
        except ImportError:
            raise need("tritonclient", "client") from None
        self.url, self.timeout_s = url, timeout_s
        self._grpc = grpc
        self._client = grpc.InferenceServerClient(url, channel_args=_channel(url))

    @staticmethod
    def address_of(workdir: Path) -> str:
        """The gRPC address of the server that runs for this working folder.

        Raises:
            ServingError: none was started, or it is gone.
        """
        return read_server_file(workdir)["grpc"]

    def __enter__(self) -> Client:
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
            ServingError: the server did not answer in time, or not at all.
        """
        try:
            text = json.dumps(dict(rules)) if rules else ""
            inputs = self.inputs(user_id.encode(), [h.encode() for h in history], k, text.encode())
        except (UnicodeEncodeError, OverflowError, TypeError, ValueError) as error:
            raise RequestError(f"the request can't be written: {error}") from None
        return _answer(self._infer(inputs))

    def _infer(self, inputs: Sequence[Any]) -> Any:
        from tritonclient.utils import InferenceServerException

        try:
            return self._client.infer(MODEL_NAME, inputs, client_timeout=self.timeout_s)
        except InferenceServerException as error:
            status = str(error.status() or "")
            if any(code in status for code in BAD_REQUEST):
                raise RequestError(str(error.message())) from None
            what = "failed" if "INTERNAL" in status else f"did not answer within {self.timeout_s} s"
            raise ServingError(f"{self.url} {what}: {status} {error.message()}") from None

    def inputs(self, user_id: bytes, history: Sequence[bytes], k: int, rules: bytes) -> list[Any]:
        """The input tensors of one request, each with the batch dimension."""
        arrays = {
            "user_id": _strings([user_id]),
            "history": _strings(history),
            "k": np.array([[k]], np.int32),
            "rules": _strings([rules]),
        }
        tensors = []
        for name, array in arrays.items():
            kind = "INT32" if name == "k" else "BYTES"
            tensor = self._grpc.InferInput(name, list(array.shape), kind)
            tensor.set_data_from_numpy(array)
            tensors.append(tensor)
        return tensors


def _channel(url: str) -> list[tuple[str, int]] | None:
    """Past any proxy of the environment (http_proxy) to this machine; None: the usual settings."""
    if url.rpartition(":")[0] not in ("127.0.0.1", "localhost", "[::1]"):
        return None
    sizes = ("grpc.max_send_message_length", "grpc.max_receive_message_length")
    return [("grpc.enable_http_proxy", 0), *((name, -1) for name in sizes)]  # -1: no limit


def _strings(values: Sequence[bytes]) -> np.ndarray:
    array = np.empty((1, len(values)), np.object_)
    array[0, :] = list(values)
    return array


def _answer(result: Any) -> Answer:
    found = {name: result.as_numpy(name)[0] for name in OUTPUTS}
    text = {name: found[name][0].decode() for name in ("release_id", "source", "reason", "explain")}
    return Answer(
        item_ids=[value.decode() for value in found["item_id"]],
        scores=[float(score) for score in found["score"]],
        release_id=text["release_id"],
        source=text["source"],
        reason=text["reason"],
        explain=json.loads(text["explain"]) if text["explain"] else {},
    )
