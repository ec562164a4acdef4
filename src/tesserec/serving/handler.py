"""Requests in, answers out: numpy and plain Python, no server (its coat: model.py of Triton)."""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tesserec.config import ServeSettings, serve_settings
from tesserec.errors import RequestError, ServingError
from tesserec.serving.answering import answer, guarded
from tesserec.serving.exposure import ExposureLog
from tesserec.serving.loaded import Loaded
from tesserec.serving.lookup import Lookup
from tesserec.serving.manager import Manager
from tesserec.serving.meter import MemoryMeter, Meter
from tesserec.serving.places import Places
from tesserec.serving.request import Request, Response
from tesserec.serving.tracing import TRACE, Tracer
from tesserec.serving.wire import request_of, tensors_of

log = logging.getLogger(__name__)
ERROR_LENGTH = 500  # a longer message would not fit into gRPC's trailer


class Handler:
    """Answers batches of requests with the release that the manager holds.

    Args:
        workdir: see `Manager`.
        release: serve this one; None follows the pointer.
        manager: for tests; made from the two others by default.
        settings: what the server is told; None: the defaults.
        meter: where the numbers go; None keeps them in memory.
        exposures: the log of what was shown; None: there is none.
    """

    def __init__(
        self,
        workdir: Path,
        release: str | None = None,
        *,
        manager: Manager | None = None,
        settings: ServeSettings | None = None,
        meter: Meter | None = None,
        exposures: ExposureLog | None = None,
    ) -> None:
        self.settings = settings or ServeSettings()
        self.meter = meter or MemoryMeter()
        self.manager = manager or Manager(
            workdir, release, settings=self.settings.change, meter=self.meter
        )
        self._lookup = Lookup(self.settings.features, self.meter)
        self._lookup.warm(self.manager.current.reader)
        self.manager.prepare = self._lookup.warm
        self._exposures = exposures
        self.tracer = self.meter if isinstance(self.meter, Tracer) else None

    @classmethod
    def from_environment(cls, meter: Meter | None = None) -> Handler:
        """Made of TESSEREC_WORKDIR, TESSEREC_RELEASE, TESSEREC_SETTINGS; follows promotions."""
        import torch

        settings = serve_settings(json.loads(os.environ.get("TESSEREC_SETTINGS") or "{}"))
        torch.set_num_threads(settings.threads)
        workdir = Path(os.environ["TESSEREC_WORKDIR"])
        meter = meter or MemoryMeter()
        if settings.trace.url:
            meter = Tracer(meter, settings.trace.url)
        handler = cls(
            workdir,
            os.environ.get("TESSEREC_RELEASE") or None,
            settings=settings,
            meter=meter,
            exposures=ExposureLog(workdir, settings.exposure, meter),
        )
        restarts = int(os.environ.get("TESSEREC_RESTARTS") or 0)
        meter.add("tesserec_server_restarts_total", restarts)
        handler.manager.watch()
        return handler

    def close(self) -> None:
        self.manager.close()
        self._lookup.close()
        if self._exposures:
            self._exposures.close()
        self.meter.close()

    def recommend_tensors(
        self, batch: Sequence[Mapping[str, np.ndarray]]
    ) -> list[dict[str, np.ndarray] | RequestError | ServingError]:
        """`recommend` on input and output tensors (shapes: `tesserec.serving.wire`)."""
        answers = self.recommend([request_of(tensors, self.settings.limits) for tensors in batch])
        if self.tracer:
            self.tracer.batch(str(tensors[TRACE]) for tensors in batch)
        return [
            guarded(tensors_of, a) if isinstance(a, Response) else type(a)(str(a)[:ERROR_LENGTH])
            for a in answers
        ]

    def recommend(
        self, requests: Sequence[Request | RequestError]
    ) -> list[Response | RequestError | ServingError]:
        """One answer or error a request, in order; never raises for what a request holds.

        A `ServingError` is a fault of ours, not of the request.
        """
        places = self.manager.places  # the same for the whole batch
        answers: list[Any] = [None] * len(requests)
        for loaded, at in places.split(requests):
            given = self._answer(places, loaded, [requests[place] for place in at])
            for place, one in zip(at, given, strict=True):
                answers[place] = one
        self._count(answers)
        if self._exposures:
            self._exposures.put(requests, answers)
        return answers

    def _answer(
        self, places: Places, loaded: Loaded, requests: Sequence[Request | RequestError]
    ) -> list[Response | RequestError | ServingError]:
        """What one of the releases in memory answers."""
        began = time.perf_counter()
        users = [r.user_id for r in requests if isinstance(r, Request) and r.user_id]
        found = self._lookup.find(loaded.reader, users)
        self.meter.observe("tesserec_stage_seconds", time.perf_counter() - began, stage="features")
        busy = time.thread_time()
        answers = answer(loaded, requests, found, meter=self.meter)
        busy = time.thread_time() - busy
        self.meter.observe("tesserec_stage_seconds", time.perf_counter() - began, stage="total")
        self.manager.saw(places, loaded, requests, found, answers, busy)
        return answers

    def _count(self, answers: Sequence[Response | RequestError | ServingError]) -> None:
        for one in answers:
            if isinstance(one, Response):
                self.meter.add("tesserec_answers_total", source=one.source)
            else:
                reason = "bad_request" if isinstance(one, RequestError) else "internal"
                self.meter.add("tesserec_rejects_total", reason=reason)
