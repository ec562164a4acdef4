"""What Triton's Python stub calls: requests into our queue, tensors or an error out."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, ClassVar

import numpy

from tesserec.errors import Overloaded, RequestError, ServingError
from tesserec.serving.handler import Handler
from tesserec.serving.heap import keep_blocks
from tesserec.serving.long_texts import refuse_long_texts
from tesserec.serving.meter_triton import TritonMeter
from tesserec.serving.orphan import die_with_server
from tesserec.serving.tracing import TRACE
from tesserec.serving.waiting import WaitingRoom
from tesserec.serving.wire import inputs_of

CODES = {RequestError: "INVALID_ARG", Overloaded: "UNAVAILABLE"}  # any other: INTERNAL


class Stub:
    """The model's methods by the names that Triton wants.

    `utils` is the module `triton_python_backend_utils`, which there is only inside the server.
    """

    utils: ClassVar[Any]

    def initialize(self, args: Any) -> None:
        # Before the seconds that the imports take, and before the first call to the server, which
        # would wait for ever for one that is gone.
        die_with_server()
        keep_blocks()
        # The stub of this server was built for numpy 1: with numpy 2 it hands over zeros, silently.
        if int(numpy.__version__.split(".")[0]) >= 2:
            raise RuntimeError(f"numpy {numpy.__version__} in the serving environment; it needs <2")
        self.handler = Handler.from_environment(TritonMeter(self.utils.MetricFamily))
        limits, meter = self.handler.settings.limits, self.handler.meter
        refuse_long_texts(self.utils, limits)
        self.room = WaitingRoom(self.handler.recommend_tensors, limits, meter)

    def execute(self, requests: Sequence[Any]) -> list[Any]:
        """A refusal for each, or None: another thread answers after this has returned."""
        return [self._guarded(request) for request in requests]

    def response(self, answer: Any) -> Any:
        """Triton's response of output tensors or an error."""
        utils = self.utils
        if isinstance(answer, Exception):
            code = getattr(utils.TritonError, CODES.get(type(answer), "INTERNAL"))
            return utils.InferenceResponse(error=utils.TritonError(str(answer), code))
        return utils.InferenceResponse([utils.Tensor(n, v) for n, v in answer.items()])

    def finalize(self) -> None:
        self.room.close()
        self.handler.close()

    def _guarded(self, request: Any) -> Any:
        try:
            return self._take_in(request)
        except Exception as error:  # a fault of one request is no other's
            return self.response(ServingError(f"internal error: {type(error).__name__}: {error}"))

    def _take_in(self, request: Any) -> Any:
        refusal = self.room.refusal()
        if refusal:  # returned, which costs less than to send it
            return self.response(refusal)
        sender = request.get_response_sender()
        read, reply = partial(self._read, request), partial(self._reply, sender)
        self.room.take_in(read, reply, sender.is_cancelled, request.timeout() / 1e6)
        return None

    def _read(self, request: Any) -> dict[str, Any]:
        tensors = inputs_of(partial(self.utils.get_input_tensor_by_name, request))
        if self.handler.tracer:
            tensors[TRACE] = numpy.array(request.trace().get_context() or "")
        return tensors

    def _reply(self, sender: Any, answer: Any) -> None:
        final = self.utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL
        sender.send(self.response(answer), flags=final)
