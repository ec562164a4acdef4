"""What Triton reads by path: the configuration, and model.py over a stand-in for its module."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import numpy as np
import pytest
from google.protobuf import text_format

from tesserec.errors import RequestError, ServingError
from tesserec.serving.handler import Handler
from tesserec.serving.wire import INPUTS, OUTPUTS

MODEL = Path(__file__).parents[3] / "serving" / "models" / "recommend"


def test_the_configuration_is_complete() -> None:
    service_pb2 = pytest.importorskip("tritonclient.grpc.model_config_pb2")
    config: Any = text_format.Parse(
        (MODEL / "config.pbtxt").read_text(), service_pb2.ModelConfig()
    )  # an unknown field fails
    assert config.name == MODEL.name
    assert config.max_batch_size > 0
    assert config.HasField("dynamic_batching")
    assert tuple(i.name for i in config.input) == INPUTS
    assert tuple(o.name for o in config.output) == OUTPUTS
    assert [i.name for i in config.input if i.allow_ragged_batch] == ["history"]


class FakeTensor:
    def __init__(self, name: str, array: np.ndarray) -> None:
        self.name, self.array = name, array

    def as_numpy(self) -> np.ndarray:
        return self.array


class FakeError(str):
    INTERNAL, INVALID_ARG = 1, 3
    code: int

    def __new__(cls, message: str, code: int) -> FakeError:
        error = super().__new__(cls, message)
        error.code = code
        return error


def response(tensors: list[FakeTensor] | None = None, error: FakeError | None = None) -> object:
    return SimpleNamespace(tensors=tensors, error=error)


@pytest.fixture
def model(handler: Handler, monkeypatch: pytest.MonkeyPatch) -> Any:
    utils = ModuleType("triton_python_backend_utils")
    stand_in: Any = utils
    stand_in.get_input_tensor_by_name = lambda request, name: request[name]
    stand_in.Tensor, stand_in.InferenceResponse, stand_in.TritonError = (
        FakeTensor,
        response,
        FakeError,
    )
    monkeypatch.setitem(sys.modules, utils.__name__, utils)
    stand_in.MetricFamily = MagicMock()
    monkeypatch.setattr(Handler, "from_environment", lambda meter: handler)
    spec = importlib.util.spec_from_file_location("recommend_model", MODEL / "1" / "model.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_numpy_2_is_refused(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(np, "__version__", "2.4.6")
    with pytest.raises(RuntimeError, match=r"numpy 2\.4\.6"):
        model.TritonPythonModel().initialize({})
    monkeypatch.setattr(np, "__version__", "1.26.4")
    model.TritonPythonModel().initialize({})


def test_a_bad_request_gets_its_own_error(model: Any, handler: Handler) -> None:
    triton = model.TritonPythonModel()
    triton.handler = handler
    good = {
        "user_id": FakeTensor("user_id", np.array([[b"U5"]], object)),
        "history": FakeTensor("history", np.empty((1, 0), object)),
        "k": FakeTensor("k", np.array([[2]], np.int32)),
        "rules": FakeTensor("rules", np.array([[b""]], object)),
    }
    bad = good | {"k": FakeTensor("k", np.array([[0]], np.int32))}
    first, second, third = triton.execute([good, bad, good])
    for answer in (first, third):
        assert answer.error is None
        assert tuple(t.name for t in answer.tensors) == OUTPUTS
    assert second.tensors is None and "k is 0" in second.error
    assert second.error.code == FakeError.INVALID_ARG
    assert triton.respond(ServingError("ours")).error.code == FakeError.INTERNAL
    assert isinstance(handler.recommend_tensors([{}])[0], RequestError)
