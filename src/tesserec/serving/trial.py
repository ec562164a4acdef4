"""A release rehearsed in the second place: recent requests and fixed histories, before it answers.

Answers must be complete: finite scores, items of its own that may be shown, no error. And the time
they take must be within its band of what the serving release takes for the same requests.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence

import numpy as np

from tesserec.errors import RequestError, ServingError
from tesserec.serving.answering import answer
from tesserec.serving.judge import SLACK_S, failed
from tesserec.serving.loaded import Loaded
from tesserec.serving.lookup import Found
from tesserec.serving.request import Request, Response

log = logging.getLogger(__name__)
LENGTHS = (1, 2, 5, 20, 50)  # of the fixed histories
TIMED = 32  # requests, one at a time, whose median is compared
ROUNDS = 3
K = 10


def rehearse_loaded(
    new: Loaded, old: Loaded | None, recent: Sequence[Request], latency_ratio: float
) -> None:
    """Ask a release that doesn't serve yet.

    Args:
        old: the serving release; None: there is none to compare times with.
        recent: real requests, as they came.

    Raises:
        ServingError: an answer is no good, or it takes too long; the message says which.
    """
    fixed = fixed_requests(new)
    requests = [*fixed, *recent]
    found = _read(new, requests)
    for place, given in enumerate(answer(new, requests, found)):
        request = requests[place]
        if isinstance(given, RequestError) and place >= len(fixed):
            continue  # a facet that the new release hasn't, say: bad is the request
        problem = _problem(new, given)
        if problem and not (old and _fails(old, request, found)):
            raise ServingError(f"its answer to {_named(request)} is no good: {problem}")
    if old is not None:
        _require_quick(new, old, requests[:TIMED], found, latency_ratio)


def fixed_requests(loaded: Loaded) -> list[Request]:
    """Histories of several lengths, spread over the catalogue, and a request without any."""
    ids = loaded.recommender.item_ids
    histories = [
        tuple(ids[(start * len(ids)) // 4 + step] for step in range(length))
        for length in LENGTHS
        for start in range(4)
        if (start * len(ids)) // 4 + length <= len(ids)
    ]
    return [Request(k=K), *(Request(history=history, k=K) for history in histories)]


def _read(loaded: Loaded, requests: Sequence[Request]) -> Mapping[str, Found]:
    """The users' rows; none if the store is silent, for which no release is to blame."""
    users = sorted({request.user_id for request in requests if request.user_id})
    try:
        rows = loaded.reader.read(users) if users else []
    except Exception:  # whatever the store's driver raises
        log.exception("the rehearsal goes on without the feature store")
        return {}
    return {u: Found(r, "read" if r.known else "unknown") for u, r in zip(users, rows, strict=True)}


def _problem(loaded: Loaded, given: object) -> str | None:
    if not isinstance(given, Response):
        return str(given)
    if failed(given):
        return given.reason
    if not np.isfinite(given.scores).all():
        return "a score is no number"
    row_of, shown = loaded.recommender.row_of, loaded.shown
    for item in given.item_ids:
        if item not in row_of or not shown[row_of[item]]:
            return f"item {item} must not be shown"
    return None


def _fails(old: Loaded, request: Request, found: Mapping[str, Found]) -> bool:
    return failed(answer(old, [request], found)[0])


def _require_quick(
    new: Loaded,
    old: Loaded,
    requests: Sequence[Request],
    found: Mapping[str, Found],
    latency_ratio: float,
) -> None:
    """Both answer in turns, so that what else the machine does concerns both.

    Several rounds, of which one within the band is enough: a crowded machine is no fault of it.
    """
    ours = theirs = 0.0
    for _ in range(ROUNDS):
        seconds: dict[str, list[float]] = {"new": [], "old": []}
        for request in requests:
            for name, loaded in (("old", old), ("new", new)):
                began = time.thread_time()
                answer(loaded, [request], found)
                seconds[name].append(time.thread_time() - began)
        ours, theirs = (float(np.median(seconds[name])) for name in ("new", "old"))
        if ours <= latency_ratio * theirs + SLACK_S:
            return
    raise ServingError(
        f"a request takes {1000 * ours:.1f} ms, {1000 * theirs:.1f} ms with the serving one "
        f"(band: {latency_ratio:g} times; change.latency_ratio)"
    )


def _named(request: Request) -> str:
    if request.user_id:
        return f"user {request.user_id!r}"
    return f"a history of {len(request.history)} items"
