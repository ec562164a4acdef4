"""Triton's coat over tesserec.serving.stub, which does the work."""

import triton_python_backend_utils as pb_utils

from tesserec.serving.stub import Stub


class TritonPythonModel(Stub):
    utils = pb_utils
