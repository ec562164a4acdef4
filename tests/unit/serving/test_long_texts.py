"""The stub's decoder of texts, exchanged under the function that the stub has fetched."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np

from tesserec.config import LimitSettings
from tesserec.errors import RequestError
from tesserec.serving.long_texts import refuse_long_texts
from tesserec.serving.wire import MAX_RULES_BYTES, request_of


def test_what_is_far_too_long_is_not_decoded_and_refused() -> None:
    utils: Any = ModuleType("utils")
    exec("def deserialize_bytes_tensor(encoded_tensor):\n    return [encoded_tensor]", vars(utils))
    fetched = utils.deserialize_bytes_tensor
    refuse_long_texts(utils, LimitSettings())
    assert fetched(b"short") == [b"short"]
    texts = fetched(b"\0" * (MAX_RULES_BYTES + 100)).reshape([1, 10**9])
    assert texts.shape == (1, 10**9), "no memory was taken for it"
    good = {
        "user_id": np.array([[b"U1"]], object),
        "history": np.empty((1, 0), object),
        "k": np.array([[1]], np.int32),
        "rules": np.array([[b""]], object),
    }
    for name, value in (("history", texts), ("rules", np.array([[None]], object))):
        assert isinstance(request_of(good | {name: value}), RequestError)
    assert not isinstance(request_of(good), RequestError)
