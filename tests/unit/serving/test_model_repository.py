"""What Triton reads by path: the configuration, and model.py over a stand-in for its module."""

from __future__ import annotations

import importlib.util
import queue
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import numpy as np
import pytest
from google.protobuf import text_format

from tesserec.errors import Overloaded, RequestError, ServingError
from tesserec.serving.handler import Handler
from tesserec.serving.wire import INPUTS, OUTPUTS

FINAL = 7
MODEL = Path(__file__).parents[3] / "serving" / "models" / "recommend"


def test_the_configuration_is_complete() -> None:
    service_pb2 = pytest.importorskip("tritonclient.grpc.model_config_pb2")
    config: Any = text_format.Parse(
        (MODEL / "config.pbtxt").read_text(), service_pb2.ModelConfig()
    )  # an unknown field fails
    assert config.name == MODEL.name
    assert config.max_batch_size > 0
    assert not config.HasField("dynamic_batching"), "our queue makes the batches"
    assert tuple(i.name for i in config.input) == INPUTS
    assert tuple(o.name for o in config.output) == OUTPUTS
    assert [i.name for i in config.input if i.allow_ragged_batch] == ["history"]


class FakeTensor:
    def __init__(self, name: str, array: np.ndarray) -> None:
        self.name, self.array = name, array

    def as_numpy(self) -> np.ndarray:
        return self.array


class FakeRequest(dict[str, FakeTensor]):
    """Its own response sender; `wait` gives what was sent."""

    def __init__(self, tensors: Mapping[str, FakeTensor], timeout_us: int = 0) -> None:
        super().__init__(tensors)
        self._timeout_us = timeout_us
        self._sent: queue.Queue[Any] = queue.Queue()

    def get_response_sender(self) -> FakeRequest:
        return self

    def is_cancelled(self) -> bool:
        return False

    def timeout(self) -> int:
        return self._timeout_us

    def send(self, answer: Any, flags: int) -> None:
        assert flags == FINAL
        self._sent.put(answer)

    def wait(self) -> Any:
        return self._sent.get(timeout=30)


class FakeError(str):
    INTERNAL, INVALID_ARG, UNAVAILABLE = 1, 3, 4
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
    stand_in.deserialize_bytes_tensor = lambda raw: np.array([raw], object)
    stand_in.get_input_tensor_by_name = lambda request, name: request[name]
    stand_in.Tensor, stand_in.InferenceResponse, stand_in.TritonError = (
        FakeTensor,
        response,
        FakeError,
    )
    stand_in.TRITONSERVER_RESPONSE_COMPLETE_FINAL = FINAL
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
    triton = model.TritonPythonModel()
    triton.initialize({})
    triton.room.close()


def test_a_bad_request_gets_its_own_error(
    model: Any, handler: Handler, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(np, "__version__", "1.26.4")
    triton = model.TritonPythonModel()
    triton.initialize({})
    good = {
        "user_id": FakeTensor("user_id", np.array([[b"U5"]], object)),
        "history": FakeTensor("history", np.empty((1, 0), object)),
        "k": FakeTensor("k", np.array([[2]], np.int32)),
        "rules": FakeTensor("rules", np.array([[b""]], object)),
    }
    asked = [
        FakeRequest(good),
        FakeRequest(good | {"k": FakeTensor("k", np.array([[0]], np.int32))}),
        FakeRequest({name: tensor for name, tensor in good.items() if name != "rules"}),
        FakeRequest(good),
    ]
    assert triton.execute(asked) == [None] * 4, "answered by another thread"
    first, second, third, fourth = (request.wait() for request in asked)
    for answer in (first, fourth):
        assert answer.error is None
        assert tuple(t.name for t in answer.tensors) == OUTPUTS
    assert second.tensors is None and "k is 0" in second.error
    assert third.tensors is None and "'rules' is missing" in third.error
    assert {second.error.code, third.error.code} == {FakeError.INVALID_ARG}
    assert triton.response(ServingError("ours")).error.code == FakeError.INTERNAL
    assert triton.response(Overloaded("much")).error.code == FakeError.UNAVAILABLE
    broken: Any = SimpleNamespace()  # it has nothing that is asked of it
    answered, left = triton.execute([broken, last := FakeRequest(good)])
    assert answered.error.code == FakeError.INTERNAL
    assert left is None and last.wait().error is None
    triton.room.close()
    late = FakeRequest(good)
    triton.execute([late])
    assert late.wait().error.code == FakeError.UNAVAILABLE
    assert isinstance(handler.recommend_tensors([{}])[0], RequestError)
