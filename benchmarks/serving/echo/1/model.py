"""The same tensors in and out as `recommend`, and nothing done: what the server itself costs."""

import numpy as np
import triton_python_backend_utils as pb_utils  # pyright: ignore[reportMissingImports]

INPUTS = ("user_id", "history", "k", "rules")


class TritonPythonModel:
    def execute(self, requests):
        return [self.respond(request) for request in requests]

    def respond(self, request):
        tensors = {n: pb_utils.get_input_tensor_by_name(request, n).as_numpy() for n in INPUTS}
        k = int(tensors["k"].reshape(-1)[0])
        items = np.full((1, k), b"an-item-id", np.object_)
        one = np.array([[b"model"]], np.object_)
        outputs = {"item_id": items, "score": np.zeros((1, k), np.float32)}
        outputs |= dict.fromkeys(("release_id", "source", "reason", "explain"), one)
        return pb_utils.InferenceResponse([pb_utils.Tensor(n, v) for n, v in outputs.items()])
