"""Triton's coat over tesserec.serving: requests into our queue, tensors or an error out."""

from functools import partial

import numpy
import triton_python_backend_utils as pb_utils

from tesserec.errors import Overloaded, RequestError, ServingError
from tesserec.serving.handler import Handler
from tesserec.serving.long_texts import refuse_long_texts
from tesserec.serving.meter_triton import TritonMeter
from tesserec.serving.tracing import TRACE
from tesserec.serving.waiting import WaitingRoom
from tesserec.serving.wire import inputs_of


class TritonPythonModel:
    def initialize(self, args):
        # The stub of this server was built for numpy 1: with numpy 2 it hands over zeros, silently.
        if int(numpy.__version__.split(".")[0]) >= 2:
            raise RuntimeError(f"numpy {numpy.__version__} in the serving environment; it needs <2")
        self.handler = Handler.from_environment(TritonMeter(pb_utils.MetricFamily))
        limits, meter = self.handler.settings.limits, self.handler.meter
        refuse_long_texts(pb_utils, limits)
        self.room = WaitingRoom(self.handler.recommend_tensors, limits, meter)

    def execute(self, requests):
        return [self.guarded(request) for request in requests]

    def guarded(self, request):
        try:
            return self.take_in(request)
        except Exception as error:  # a fault of one request is no other's
            return self.response(ServingError(f"internal error: {type(error).__name__}: {error}"))

    def take_in(self, request):
        refusal = self.room.refusal()
        if refusal:  # returned, which costs less than to send it
            return self.response(refusal)
        sender = request.get_response_sender()
        read, reply = partial(self.read, request), partial(self.reply, sender)
        self.room.take_in(read, reply, sender.is_cancelled, request.timeout() / 1e6)
        return None  # it is answered by another thread, after this has returned

    def read(self, request):
        tensors = inputs_of(partial(pb_utils.get_input_tensor_by_name, request))
        if self.handler.tracer:
            tensors[TRACE] = numpy.array(request.trace().get_context() or "")
        return tensors

    def reply(self, sender, answer):
        final = pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL
        sender.send(self.response(answer), flags=final)

    def response(self, answer):
        if isinstance(answer, Exception):
            codes = {RequestError: "INVALID_ARG", Overloaded: "UNAVAILABLE"}
            code = getattr(pb_utils.TritonError, codes.get(type(answer), "INTERNAL"))
            return pb_utils.InferenceResponse(error=pb_utils.TritonError(str(answer), code))
        return pb_utils.InferenceResponse([pb_utils.Tensor(n, v) for n, v in answer.items()])

    def finalize(self):
        self.room.close()
        self.handler.close()
