"""Triton's coat over tesserec.serving.handler: tensors in, tensors or an error a request out."""

import numpy
import triton_python_backend_utils as pb_utils

from tesserec.errors import RequestError
from tesserec.serving.handler import Handler
from tesserec.serving.meter_triton import TritonMeter
from tesserec.serving.wire import INPUTS


class TritonPythonModel:
    def initialize(self, args):
        # The stub of this server was built for numpy 1: with numpy 2 it hands over zeros, silently.
        if int(numpy.__version__.split(".")[0]) >= 2:
            raise RuntimeError(f"numpy {numpy.__version__} in the serving environment; it needs <2")
        self.handler = Handler.from_environment(TritonMeter(pb_utils.MetricFamily))

    def execute(self, requests):
        tensors = [
            {name: pb_utils.get_input_tensor_by_name(r, name).as_numpy() for name in INPUTS}
            for r in requests
        ]
        return [self.respond(a) for a in self.handler.recommend_tensors(tensors)]

    def respond(self, answer):
        if isinstance(answer, Exception):
            code = "INVALID_ARG" if isinstance(answer, RequestError) else "INTERNAL"
            error = pb_utils.TritonError(str(answer), getattr(pb_utils.TritonError, code))
            return pb_utils.InferenceResponse(error=error)
        return pb_utils.InferenceResponse([pb_utils.Tensor(n, v) for n, v in answer.items()])

    def finalize(self):
        self.handler.close()
