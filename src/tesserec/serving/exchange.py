"""What both clients share: a request's tensors, the typed answer, and errors in our own words."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tesserec.errors import RequestError, ServingError, UsageError, need
from tesserec.serving.throttle import Throttle
from tesserec.serving.wire import OUTPUTS, TRY_LATER

MODEL_NAME = "recommend"
HINTS = {  # what gRPC says of a connection -> what to do
    "WRONG_VERSION_NUMBER": "the server has no TLS: leave the files of TLS out",
    "CERTIFICATE_VERIFY_FAILED": "its certificate is not signed by the ca that is named: name the "
    "right one",
    "Socket closed": "it hung up: with TLS it does so if the client has none, or shows no "
    "certificate that it trusts: name ca, cert and key",
}
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


def inputs_of(
    user_id: str, history: Sequence[str], k: int, rules: Mapping[str, Any] | None
) -> list[Any]:
    """The input tensors of a request.

    Raises:
        RequestError: it can't be written down (half a surrogate pair, a k beyond 32 bits).
    """
    if not isinstance(user_id, str):
        raise RequestError(f"user_id is {user_id!r}; send a string")
    if isinstance(history, str | bytes) or not all(isinstance(h, str) for h in history):
        raise RequestError(f"history is {history!r:.200}; send a list of item ids, oldest first")
    if not isinstance(k, int) or isinstance(k, bool):
        raise RequestError(f"k is {k!r}; send a whole number")
    if rules is not None and not isinstance(rules, Mapping):
        raise RequestError(f"rules are {rules!r:.200}; send a dictionary")
    try:
        text = json.dumps(dict(rules)) if rules else ""
        return tensors(user_id.encode(), [h.encode() for h in history], k, text.encode())
    except (UnicodeEncodeError, OverflowError, TypeError, ValueError) as error:
        raise RequestError(f"the request can't be written: {error}") from None


def tensors(user_id: bytes, history: Sequence[bytes], k: int, rules: bytes) -> list[Any]:
    """The input tensors of one request, each with the batch dimension, whatever the bytes are."""
    try:
        from tritonclient.grpc import InferInput
    except ImportError:
        raise need("tritonclient", "client") from None
    arrays = {
        "user_id": _strings([user_id]),
        "history": _strings(history),
        "k": np.array([[k]], np.int32),
        "rules": _strings([rules]),
    }
    made = []
    for name, array in arrays.items():
        tensor = InferInput(name, list(array.shape), "INT32" if name == "k" else "BYTES")
        made.append(tensor.set_data_from_numpy(array))
    return made


def answer_of(result: Any) -> Answer:
    """The answer in tritonclient's result.

    Raises:
        ServingError: outputs are missing or unreadable: it is no server of ours.
    """
    try:
        found = {name: result.as_numpy(name)[0] for name in OUTPUTS}
        names = ("release_id", "source", "reason", "explain")
        text = {name: found[name][0].decode() for name in names}
        return Answer(
            item_ids=[value.decode() for value in found["item_id"]],
            scores=[float(score) for score in found["score"]],
            release_id=text["release_id"],
            source=text["source"],
            reason=text["reason"],
            explain=json.loads(text["explain"]) if text["explain"] else {},
        )
    except (TypeError, IndexError, ValueError) as error:
        raise ServingError(
            f"the answer can't be read ({error}); is the server of another version?"
        ) from None


def may_try_again(error: Any) -> bool:
    """Whether the server did not take the request on: unreachable, or its queue is full.

    A connection that broke in the middle looks the same; a repeated request changes nothing.
    """
    return "UNAVAILABLE" in str(error.status() or "") or _without_model(error)


def _without_model(error: Any) -> bool:
    """Whether the server is there but its model isn't: it is starting or stopping."""
    return "unknown model" in str(error.message())


def told_of(throttle: Throttle, error: Any) -> None:
    """Count what an error says about the server's load; nothing, if it wasn't reached."""
    status, message = str(error.status() or ""), str(error.message())
    if "UNAVAILABLE" not in status:
        throttle.count(taken="DEADLINE_EXCEEDED" not in status)
    elif TRY_LATER in message:
        throttle.count(taken=False)


def held_back(url: str) -> ServingError:
    return ServingError(
        f"{url} takes on few of the requests that it gets, or is late; this one was not sent, "
        f"{TRY_LATER}"
    )


def failure(error: Any, url: str, seconds: float) -> RequestError | ServingError:
    """Our error for tritonclient's."""
    status, message = str(error.status() or ""), str(error.message())
    if _without_model(error):
        return ServingError(f"{url} is starting or stopping: {message}")
    if any(code in status for code in BAD_REQUEST):
        return RequestError(message)
    if "INTERNAL" in status:
        return ServingError(f"{url} failed: {status} {message}")
    if "UNAVAILABLE" in status:
        hints = [hint for words, hint in HINTS.items() if words in message and "connect" in message]
        hint = f"{hints[0]} (" if hints else ""
        return ServingError(f"{url} did not answer: {hint}{status} {message}{')' * bool(hints)}")
    return ServingError(f"{url} did not answer within {seconds:g} s: {status} {message}")


def check_call(url: str, timeout_s: float, retries: int) -> None:
    """Raises UsageError for an address, a time or a number of retries that makes no sense."""
    if url.startswith(("http:", "https:", "grpc:")):
        raise UsageError(
            f"the address is {url}; gRPC wants host:port alone, here {url.split('//')[-1]} (the "
            "address `grpc` that `tesserec serve` prints, not that of HTTP)"
        )
    if not timeout_s > 0:
        raise UsageError(f"timeout_s is {timeout_s}; use seconds above 0")
    if retries < 0:
        raise UsageError(f"retries is {retries}; use 0 or more")


def _strings(values: Sequence[bytes]) -> np.ndarray:
    array = np.empty((1, len(values)), np.object_)
    array[0, :] = list(values)
    return array
