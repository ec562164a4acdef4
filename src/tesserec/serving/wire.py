"""Between Triton's tensors (numpy) and requests and responses; the only place that knows both."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

import numpy as np

from tesserec.config.serving import LimitSettings
from tesserec.errors import RequestError
from tesserec.serving.request import LIMITS, Request, Response, make_request

INPUTS = ("user_id", "history", "k", "rules")
MAX_ID_BYTES = 1024
MAX_RULES_BYTES = 2 << 20
TEXT_BYTES = 41  # of a text besides its own bytes: the object and the pointer to it
COUNTED = 10_000  # texts of a tensor whose lengths are added up
TRY_LATER = "try again later"  # so end the messages of a server that has too much to do
OUTPUTS = ("item_id", "score", "release_id", "source", "reason", "explain")


def inputs_of(tensor: Callable[[str], Any]) -> dict[str, np.ndarray]:
    """The input tensors of a request of Triton's, by name, in memory of their own.

    An input that can't be read is left out; `request_of` then says so.
    """
    found: dict[str, np.ndarray] = {}
    for name in INPUTS:
        with suppress(Exception):  # whatever the stub raises; it concerns this request alone
            array = tensor(name).as_numpy()
            found[name] = array if array.dtype == np.object_ else array.copy()
    return found


def request_of(
    tensors: Mapping[str, np.ndarray], limits: LimitSettings = LIMITS
) -> Request | RequestError:
    """The request of one set of input tensors, each with a batch dimension of 1; never raises.

    Shapes: user_id [1, 1], history [1, n] (n may be 0), k [1, 1], rules [1, 1]. Sizes are looked at
    before anything is decoded.
    """
    try:
        _check_shapes(tensors, limits)
        return make_request(
            user_id=_text(tensors["user_id"].reshape(-1)[0], "user_id", MAX_ID_BYTES),
            history=[_text(v, "history", MAX_ID_BYTES) for v in tensors["history"].reshape(-1)],
            k=int(tensors["k"].reshape(-1)[0]),
            rules=_text(tensors["rules"].reshape(-1)[0], "rules", MAX_RULES_BYTES),
            limits=limits,
        )
    except RequestError as error:
        # Another one, without the traceback: its frames would keep the request's bytes alive.
        return RequestError(str(error))
    except KeyError as error:
        return RequestError(f"input {error} is missing, or its bytes aren't what its type says")
    except (ValueError, TypeError, IndexError) as error:
        return RequestError(f"malformed request: {type(error).__name__}: {error}")


def bytes_of(tensors: Mapping[str, np.ndarray]) -> int:
    """What a request's tensors hold, about; one that was not decoded (`long_texts`) counts as the
    longest rules."""
    total = 0
    for array in tensors.values():
        if array.dtype != np.object_:
            total += array.nbytes
        elif array.size and array.flat[0] is None:
            total += MAX_RULES_BYTES
        else:
            texts = sum(map(len, array.flat)) if array.size <= COUNTED else MAX_RULES_BYTES
            total += texts + array.size * TEXT_BYTES
    return total


def tensors_of(response: Response) -> dict[str, np.ndarray]:
    """The output tensors of one response, with a batch dimension of 1."""
    return {
        "item_id": _bytes(response.item_ids),
        "score": np.asarray(response.scores, np.float32)[None, :],
        "release_id": _bytes([response.release_id]),
        "source": _bytes([response.source]),
        "reason": _bytes([response.reason]),
        "explain": _bytes([response.explain]),
    }


def _check_shapes(tensors: Mapping[str, np.ndarray], limits: LimitSettings) -> None:
    for name in INPUTS:
        if tensors[name].shape[0] != 1:
            raise RequestError(
                f"{name} has a batch of {tensors[name].shape[0]}; send one user a request, "
                "the server makes the batches"
            )
    count = tensors["history"].size
    if count > limits.history:
        raise RequestError(f"the history has {count} items; send the last {limits.history}")


def _text(value: Any, name: str, most: int) -> str:
    if isinstance(value, str):
        return value
    if value is None or len(value) > most:  # None: `tesserec.serving.long_texts`
        raise RequestError(f"{name} holds a text of more than {most} bytes")
    try:
        return bytes(value).decode()
    except UnicodeDecodeError as error:
        raise RequestError(f"{name} is not UTF-8: {error}") from None


def _bytes(values: list[str]) -> np.ndarray:
    array = np.empty((1, len(values)), dtype=np.object_)
    array[0, :] = [value.encode() for value in values]
    return array
