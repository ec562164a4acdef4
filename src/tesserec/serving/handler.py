"""Requests in, answers out: numpy and plain Python, no server (its coat: model.py of Triton)."""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tesserec.decoders.constraints import Constraints, pack_bits
from tesserec.errors import RequestError, ServingError
from tesserec.serving.features import UserRow
from tesserec.serving.loaded import Loaded, is_facet
from tesserec.serving.manager import Manager
from tesserec.serving.orphan import die_with_server
from tesserec.serving.request import Request, Response, Rules
from tesserec.serving.wire import request_of, tensors_of

log = logging.getLogger(__name__)
MODEL, POPULAR = "model", "popular"
QUIET_S = 60.0  # a store that does not answer is logged once in so long, not once a batch
ERROR_LENGTH = 500  # a longer message would not fit into gRPC's trailer


@dataclass(frozen=True)
class Job:
    """One good request with everything that its answer needs."""

    request: Request
    history: list[str]  # item ids used, oldest first, all known to the release
    ignored: list[str]  # item ids of the history that the release does not know
    seen: set[str]
    allowed: np.ndarray | None  # bool [N] of facets in the rules, or None
    notes: tuple[str, ...]


class Handler:
    """Answers batches of requests with the release that the manager holds.

    Args:
        workdir: see `Manager`.
        release: serve this one; None follows the pointer.
        manager: for tests; made from the two others by default.
    """

    def __init__(
        self, workdir: Path, release: str | None = None, *, manager: Manager | None = None
    ) -> None:
        self.manager = manager or Manager(workdir, release)
        self._complain_at = 0.0

    @classmethod
    def from_environment(cls) -> Handler:
        """Made of TESSEREC_WORKDIR, TESSEREC_RELEASE, TESSEREC_THREADS; follows promotions."""
        die_with_server()  # before the seconds that the imports take
        import torch

        torch.set_num_threads(int(os.environ.get("TESSEREC_THREADS") or 1))
        handler = cls(
            Path(os.environ["TESSEREC_WORKDIR"]), os.environ.get("TESSEREC_RELEASE") or None
        )
        handler.manager.watch()
        return handler

    def close(self) -> None:
        self.manager.close()

    def recommend_tensors(
        self, batch: Sequence[Mapping[str, np.ndarray]]
    ) -> list[dict[str, np.ndarray] | RequestError | ServingError]:
        """`recommend` on input and output tensors (shapes: `tesserec.serving.wire`)."""
        answers = self.recommend([request_of(tensors) for tensors in batch])
        return [
            _guarded(tensors_of, a) if isinstance(a, Response) else type(a)(str(a)[:ERROR_LENGTH])
            for a in answers
        ]

    def recommend(
        self, requests: Sequence[Request | RequestError]
    ) -> list[Response | RequestError | ServingError]:
        """One answer or error a request, in order; never raises for what a request holds.

        A `ServingError` is a fault of ours, not of the request.
        """
        loaded = self.manager.current  # one release for the whole batch
        rows = self._features(loaded, requests)
        answers: list[Response | RequestError | ServingError | Job] = []
        for request in requests:
            answers.append(_guarded(_prepare, loaded, request, rows))
        groups: dict[tuple[Any, ...], list[int]] = {}
        for place, job in enumerate(answers):
            if isinstance(job, Job):
                groups.setdefault(_group_key(job), []).append(place)
        for places in groups.values():
            jobs = [answers[place] for place in places]
            for place, answer in zip(places, _answer_group(loaded, jobs), strict=True):
                answers[place] = answer
        return answers  # pyright: ignore[reportReturnType]  # every Job was replaced above

    def _features(
        self, loaded: Loaded, requests: Sequence[Request | RequestError]
    ) -> dict[str, UserRow] | None:
        """Rows by user id, one read for the batch; None if the store did not answer."""
        users = {r.user_id for r in requests if isinstance(r, Request) and r.user_id}
        if not users:
            return {}
        ordered = sorted(users)
        try:
            return dict(zip(ordered, loaded.reader.read(ordered), strict=True))
        except Exception:  # whatever the store's driver raises: answer without it
            if time.monotonic() >= self._complain_at:
                self._complain_at = time.monotonic() + QUIET_S
                log.exception("the feature store did not answer for %d users", len(ordered))
            return None


def _prepare(
    loaded: Loaded, request: Request | RequestError, rows: Mapping[str, UserRow] | None
) -> Job | RequestError:
    if isinstance(request, RequestError):
        return request
    row = rows.get(request.user_id) if rows is not None else None
    notes = []
    if request.user_id and rows is None:
        notes.append("the feature store did not answer")
    elif row is not None and not row.known:
        notes.append("unknown user")
    if request.history:
        wished = list(request.history)
        notes.append("the request's history was used")
    else:
        wished = list(row.history) if row else []
    known = loaded.catalogue.row_of
    history = [item for item in wished if item in known]
    ignored = [item for item in wished if item not in known]
    if not history:
        notes.append("no known item in the history: popular items")
    seen = (set(row.seen) if row else set()) | set(wished)
    allowed = _facet_mask(loaded, request.rules)
    return Job(request, history, ignored, seen, allowed, tuple(notes))


def _facet_mask(loaded: Loaded, rules: Rules) -> np.ndarray | None:
    """bool [N] of what the facets in allow and deny leave over; None if there are none."""
    catalogue = loaded.catalogue
    mask = None
    if rules.allow is not None and any(map(is_facet, rules.allow)):
        mask = catalogue.select(rules.allow)
    facets = [entry for entry in rules.deny if is_facet(entry)]
    if facets:
        denied = ~catalogue.select(facets)
        mask = denied if mask is None else mask & denied
    return mask


def _group_key(job: Job) -> tuple[Any, ...]:
    """Jobs with equal keys are decoded together: what constraints share, and how they answer."""
    rules = job.request.rules
    facets = None
    if job.allowed is not None:
        facets = (rules.allow, tuple(entry for entry in rules.deny if is_facet(entry)))
    sparse = rules.allow is not None and job.allowed is None
    # A quota moves items, so its first k of 2k aren't its k; all other rankings are prefixes.
    k = job.request.k if rules.quota_new else 0
    return bool(job.history), facets, sparse, rules.quota_new, rules.diversity, k


def _answer_group(loaded: Loaded, jobs: Sequence[Any]) -> list[Response | ServingError]:
    """Decode jobs together; if that fails, each alone, so that one of them fails for itself."""
    try:
        return _decode(loaded, jobs)
    except Exception as error:
        if len(jobs) > 1:
            return [_answer_group(loaded, [job])[0] for job in jobs]
        log.exception("a request failed")
        return [ServingError(f"internal error: {type(error).__name__}: {error}")]


def _decode(loaded: Loaded, jobs: Sequence[Job]) -> list[Response | ServingError]:
    recommender, total = loaded.recommender, len(loaded.catalogue.row_of)
    k = min(max(job.request.k for job in jobs), total)
    if jobs[0].history:
        constraints = _constraints(loaded, jobs)
        ids, scores = recommender.recommend([job.history for job in jobs], k, constraints)
        found = list(zip(ids, scores, strict=True))
    else:
        found = [recommender.popular(k, _constraints(loaded, [job])) for job in jobs]
    return [
        _response(loaded, job, list(ids), np.asarray(scores, np.float32))
        for job, (ids, scores) in zip(jobs, found, strict=True)
    ]


def _constraints(loaded: Loaded, jobs: Sequence[Job]) -> Constraints:
    """The constraints of a group: shared bits, and rows of each job."""
    catalogue, first = loaded.catalogue, jobs[0]
    rules = first.request.rules
    sparse_allow = rules.allow is not None and first.allowed is None
    return Constraints(
        allowed=loaded.shown_bits
        if first.allowed is None
        else pack_bits(loaded.shown & first.allowed),
        deny=[catalogue.rows(_denied(job)) for job in jobs],
        allow=[catalogue.rows(job.request.rules.allow or ()) for job in jobs]
        if sparse_allow
        else None,
        quota=(catalogue.new_bits, rules.quota_new) if rules.quota_new else None,
        cap=(catalogue.groups, rules.diversity) if rules.diversity else None,
    )


def _denied(job: Job) -> set[str]:
    rules = job.request.rules
    return set(rules.deny) | (job.seen if rules.exclude_seen else set())


def _response(loaded: Loaded, job: Job, ids: list[str], scores: np.ndarray) -> Response:
    k = job.request.k
    ids, scores = ids[:k], scores[:k]
    notes = list(job.notes)
    if len(ids) < k:
        notes.append(f"{len(ids)} of {k} items: the rules and the catalogue allow no more")
    quota = job.request.rules.quota_new
    if quota:
        new = int(loaded.catalogue.new[loaded.catalogue.rows(ids)].sum())
        if new < quota:
            notes.append(f"{new} of {quota} new items: there are no more")
    explain = _explain(loaded, job, ids) if job.request.rules.explain else ""
    source = MODEL if job.history else POPULAR
    return Response(ids, scores, loaded.release_id, source, "; ".join(notes), explain)


def _explain(loaded: Loaded, job: Job, ids: list[str]) -> str:
    """JSON: which history was used, what was left out, and titles and codes of the answer."""
    catalogue = loaded.catalogue
    rows = [catalogue.row_of[item] for item in ids]
    titles = _titles(catalogue, ids)
    codes = loaded.recommender.codes
    rules = job.request.rules
    return json.dumps(
        {
            "history": job.history,
            "history_titles": _titles(catalogue, job.history),
            "ignored": job.ignored,
            "seen": len(job.seen),
            "excluded": len(catalogue.rows(_denied(job))),
            "rules": {name: getattr(rules, name) for name in rules.__dataclass_fields__},
            "items": [
                {"item_id": item, "title": title, "sid": _sid(codes, row)}
                for item, title, row in zip(ids, titles, rows, strict=True)
            ],
        },
        ensure_ascii=False,
    )


def _sid(codes: np.ndarray | None, row: int) -> list[int] | None:
    """An item's codes; none where the model has none."""
    return None if codes is None else [int(code) for code in codes[row]]


def _titles(catalogue: Any, item_ids: Sequence[str]) -> list[str | None]:
    rows = [catalogue.row_of[item] for item in item_ids]
    return catalogue.items["title"].take(rows).to_pylist() if rows else []


def _guarded(function: Any, *arguments: Any) -> Any:
    """The function's result; an unforeseen exception becomes an error of that request alone."""
    try:
        return function(*arguments)
    except RequestError as error:
        return error
    except Exception as error:
        log.exception("a request could not be handled")
        return ServingError(f"internal error: {type(error).__name__}: {error}")
