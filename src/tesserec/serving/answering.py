"""Good requests and what is known of their users in, responses of one release out."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tesserec.decoders.constraints import Constraints, pack_bits
from tesserec.errors import RequestError, ServingError
from tesserec.serving.catalogue import is_facet
from tesserec.serving.explain import explain
from tesserec.serving.loaded import Loaded
from tesserec.serving.lookup import Found
from tesserec.serving.request import Request, Response, Rules

log = logging.getLogger(__name__)
MODEL, POPULAR = "model", "popular"


@dataclass(frozen=True)
class Job:
    """One good request with everything that its answer needs."""

    request: Request
    history: list[str]  # item ids used, oldest first, all known to the release
    ignored: list[str]  # item ids of the history that the release does not know
    seen: set[str]
    allowed: np.ndarray | None  # bool [N] of facets in the rules, or None
    notes: tuple[str, ...]

    @property
    def denied(self) -> set[str]:
        """Item ids (and facets) that this request must not show."""
        rules = self.request.rules
        return set(rules.deny) | (self.seen if rules.exclude_seen else set())


def answer(
    loaded: Loaded,
    requests: Sequence[Request | RequestError],
    found: Mapping[str, Found],
) -> list[Response | RequestError | ServingError]:
    """One answer or error a request, in order; a fault of one never becomes another's.

    Args:
        found: what is known of each user that a request names.
    """
    answers: list[Response | RequestError | ServingError | Job] = []
    for request in requests:
        answers.append(guarded(prepare, loaded, request, found))
    groups: dict[tuple[Any, ...], list[int]] = {}
    for place, job in enumerate(answers):
        if isinstance(job, Job):
            groups.setdefault(_group_key(job), []).append(place)
    for places in groups.values():
        jobs = [answers[place] for place in places]
        for place, response in zip(places, _answer_group(loaded, jobs), strict=True):
            answers[place] = response
    return answers  # pyright: ignore[reportReturnType]  # every Job was replaced above


def prepare(
    loaded: Loaded, request: Request | RequestError, found: Mapping[str, Found]
) -> Job | RequestError:
    """What one request needs, out of its user's features or its own history."""
    if isinstance(request, RequestError):
        return request
    user = found.get(request.user_id)
    row = user.row if user else None
    notes = []
    if user and user.outcome in ("late", "failed"):
        notes.append("the feature store did not answer")
    elif user and user.outcome == "unknown":
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
        deny=[catalogue.rows(job.denied) for job in jobs],
        allow=[catalogue.rows(job.request.rules.allow or ()) for job in jobs]
        if sparse_allow
        else None,
        quota=(catalogue.new_bits, rules.quota_new) if rules.quota_new else None,
        cap=(catalogue.groups, rules.diversity) if rules.diversity else None,
    )


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
    told = explain(loaded, job, ids) if job.request.rules.explain else ""
    source = MODEL if job.history else POPULAR
    return Response(ids, scores, loaded.release_id, source, "; ".join(notes), told)


def guarded(function: Any, *arguments: Any) -> Any:
    """The function's result; an unforeseen exception becomes an error of that request alone."""
    try:
        return function(*arguments)
    except RequestError as error:
        return error
    except Exception as error:
        log.exception("a request could not be handled")
        return ServingError(f"internal error: {type(error).__name__}: {error}")
