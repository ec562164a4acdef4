"""In Triton's Python stub: inputs that are far too long are refused before they are decoded.

The stub takes every BYTES tensor apart in Python, all texts of it, before it hands the request
over: a million short texts (8 MB) cost the other requests most of a second, and Triton has no limit
for the size of a message. The function that does it was fetched by the stub already, so its code is
what can be exchanged.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np

from tesserec.config import LimitSettings
from tesserec.serving.wire import MAX_ID_BYTES, MAX_RULES_BYTES

LENGTH_BYTES = 4  # before each text


class TooLong:
    """Stands for a tensor that is not decoded: takes any shape, all its values are None."""

    def reshape(self, *shape: Any) -> np.ndarray:
        dims = shape[0] if len(shape) == 1 else shape
        return np.broadcast_to(np.array(None, np.object_), dims)


def refuse_long_texts(pb_utils: ModuleType, limits: LimitSettings) -> None:
    """Have the stub's decoder return `TooLong` for more bytes than any good request has."""
    decode = pb_utils.deserialize_bytes_tensor
    original = type(decode)(decode.__code__, decode.__globals__)
    longest = max(MAX_RULES_BYTES, limits.history * (MAX_ID_BYTES + LENGTH_BYTES)) + LENGTH_BYTES
    vars(pb_utils).update(decode_texts=original, TooLong=TooLong, LONGEST=longest)
    decode.__code__ = _decode.__code__


def _decode(encoded_tensor: Any) -> Any:  # its names are looked up in Triton's module
    if len(encoded_tensor) > LONGEST:  # noqa: F821  # pyright: ignore[reportUndefinedVariable]
        return TooLong()
    return decode_texts(encoded_tensor)  # noqa: F821  # pyright: ignore[reportUndefinedVariable]
