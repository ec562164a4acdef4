"""Good requests and what is known of their users in, responses of one release out."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from tesserec.decoders.constraints import Constraints, bits_at, count_bits
from tesserec.errors import RequestError, ServingError
from tesserec.serving.explain import explain
from tesserec.serving.fallback import popular
from tesserec.serving.jobs import Job, prepare
from tesserec.serving.loaded import Loaded
from tesserec.serving.lookup import Found
from tesserec.serving.meter import MemoryMeter, Meter
from tesserec.serving.quiet import Quiet
from tesserec.serving.reasons import reason
from tesserec.serving.request import Request, Response, Rules

log = logging.getLogger(__name__)
complain = Quiet(log).error
MODEL, MODEL_STALE = "model", "model_stale"


def answer(
    loaded: Loaded,
    requests: Sequence[Request | RequestError],
    found: Mapping[str, Found],
    *,
    meter: Meter | None = None,
    now_s: float | None = None,
) -> list[Response | RequestError | ServingError]:
    """One answer or error a request, in order; a fault of one never becomes another's.

    Args:
        found: what is known of each user that a request names.
        meter: where the numbers go; None: nowhere.
        now_s: unix seconds that rules about new items count from; None: the clock's.
    """
    batch = _Batch(loaded, meter or MemoryMeter(), time.time() if now_s is None else now_s)
    answers: list[Response | RequestError | ServingError | Job] = []
    for request in requests:
        answers.append(guarded(prepare, loaded, request, found, batch.cache))
    groups: dict[tuple[Any, ...], list[int]] = {}
    for place, job in enumerate(answers):
        if isinstance(job, Job):
            groups.setdefault(_group_key(loaded, job), []).append(place)
    shared = _Shared.of(batch, answers)
    for places in groups.values():
        jobs = [answers[place] for place in places]
        for place, response in zip(places, _answer_group(batch, jobs, shared), strict=True):
            answers[place] = response
    batch.count([one.item_ids for one in answers if isinstance(one, Response)])
    return answers  # pyright: ignore[reportReturnType]  # every Job was replaced above


@dataclass(frozen=True)
class _Batch:
    """What all requests of a batch have in common."""

    loaded: Loaded
    meter: Meter
    now_s: float

    def cache(self, outcome: str) -> None:
        self.meter.add("tesserec_cache_total", cache="rules", outcome=outcome)

    def spent(self, stage: str, seconds: float) -> None:
        self.meter.observe("tesserec_stage_seconds", seconds, stage=stage)

    def count(self, answers: Sequence[Sequence[str]]) -> None:
        """Add up how many of the items in answers are new."""
        row_of = self.loaded.catalogue.row_of
        rows = np.array([row_of[item] for ids in answers for item in ids], np.int64)
        new = int(self.loaded.catalogue.new[rows].sum())
        for kind, items in (("new", new), ("known", len(rows) - new)):
            if items:
                self.meter.add("tesserec_items_total", items, kind=kind)


@dataclass(frozen=True)
class _Shared:
    """What the model makes of all its users of a batch at once, whatever their rules."""

    state: Any
    at: dict[int, int]  # id of a job -> its place in the state

    @classmethod
    def of(cls, batch: _Batch, answers: Sequence[Any]) -> _Shared | None:
        """None if there are none, or the model fails: then each group and job tries by itself."""
        jobs = [job for job in answers if isinstance(job, Job) and job.usable]
        if not jobs:
            return None
        try:
            state = batch.loaded.recommender.state([j.history for j in jobs], spent=batch.spent)
        except Exception:
            log.debug("the model failed on a batch of %d", len(jobs), exc_info=True)
            return None
        return cls(state, {id(job): place for place, job in enumerate(jobs)})


def _group_key(loaded: Loaded, job: Job) -> tuple[Any, ...]:
    """Jobs with equal keys are decoded together: what constraints share, and how they answer."""
    rules = job.request.rules
    # A quota moves items, so its first k of 2k aren't its k; most other rankings are prefixes.
    k = job.request.k if rules.quota_new or not loaded.recommender.prefixes else 0
    quota = rules.quota_new, rules.quota_days
    return job.usable, job.shared, job.by_list, quota, rules.diversity, k


def _answer_group(
    batch: _Batch, jobs: Sequence[Any], shared: _Shared | None = None
) -> list[Response | ServingError]:
    """Decode jobs together; if that fails, each alone, so that one of them fails for itself."""
    try:
        return _decode(batch, jobs, shared)
    except Exception as error:
        if len(jobs) > 1 or shared:
            return [_answer_group(batch, [job])[0] for job in jobs]
        if jobs[0].usable:
            complain("the model failed on a good request", trace=True)
            batch.meter.add("tesserec_model_failures_total")
            return [guarded(_without_model, batch, jobs[0])]
        log.exception("a request failed")
        return [ServingError(f"internal error: {type(error).__name__}: {error}")]


def _decode(
    batch: _Batch, jobs: Sequence[Job], shared: _Shared | None
) -> list[Response | ServingError]:
    constraints = _constraints(batch, jobs)
    if not jobs[0].usable:
        each = [constraints.of([place]) for place in range(len(jobs))]
        popular_ = [popular(batch.loaded, job, one) for job, one in zip(jobs, each, strict=True)]
        return [_response(batch, job, *found) for job, found in zip(jobs, popular_, strict=True)]
    recommender, total = batch.loaded.recommender, len(batch.loaded.catalogue.row_of)
    k = min(max(job.request.k for job in jobs), total)
    if shared:
        state, users = shared.state, [shared.at[id(job)] for job in jobs]
    else:
        state = recommender.state([job.history for job in jobs], spent=batch.spent)
        users = list(range(len(jobs)))
    ids, scores = recommender.rank(state, users, k, constraints, spent=batch.spent)
    return [
        _response(batch, job, ids[at], scores[at], MODEL_STALE if job.stale else MODEL)
        for at, job in enumerate(jobs)
    ]


def _without_model(batch: _Batch, job: Job) -> Response:
    """The answer to a good request on which the model failed."""
    found = popular(batch.loaded, job, _constraints(batch, [job]))
    told = replace(job, notes=(*job.notes, reason("model_failed")))
    return replace(_response(batch, told, *found), model_failed=True)


def _constraints(batch: _Batch, jobs: Sequence[Job]) -> Constraints:
    """The constraints of a group: shared bits, and rows of each job."""
    loaded, catalogue, first = batch.loaded, batch.loaded.catalogue, jobs[0]
    rules = first.request.rules
    allowed = _both(loaded.shown_bits, first.allowed)
    allow = None
    if first.by_list:
        allow = [catalogue.rows(job.request.rules.allow or ()) for job in jobs]
    _observe_shares(batch, jobs, allowed, allow)
    quota = None
    if rules.quota_new:
        new = catalogue.new_mask(rules.quota_days, batch.now_s, batch.cache)
        quota = new, rules.quota_new
    return Constraints(
        allowed=allowed,
        deny=[catalogue.rows(job.denied) for job in jobs],
        allow=allow,
        quota=quota,
        cap=(catalogue.groups, rules.diversity) if rules.diversity else None,
        seeds=[job.request.rules.seed for job in jobs],
    )


def _both(first: np.ndarray | None, second: np.ndarray | None) -> np.ndarray | None:
    if first is None or second is None:
        return first if second is None else second
    return first & second


def _observe_shares(
    batch: _Batch,
    jobs: Sequence[Job],
    allowed: np.ndarray | None,
    allow: Sequence[np.ndarray] | None,
) -> None:
    """How much of the catalogue masks and lists leave each job; single denied items count in."""
    total = len(batch.loaded.catalogue.row_of)
    open_ = total if allowed is None else count_bits(allowed)
    for place in range(len(jobs)):
        items = open_ if allow is None else len(allow[place])
        batch.meter.observe("tesserec_allowed_share", items / total)


def _response(
    batch: _Batch, job: Job, ids: Sequence[str], scores: np.ndarray, source: str
) -> Response:
    k, rules = job.request.k, job.request.rules
    ids, scores = list(ids[:k]), np.asarray(scores[:k], np.float32)
    shortages = []
    if len(ids) < k:
        shortages.append(reason(_shortage(batch.loaded, job), found=len(ids), wanted=k))
    if rules.quota_new:
        new = _new_among(batch, rules, ids)
        if new < rules.quota_new:
            shortages.append(reason("no_new_items", found=new, wanted=rules.quota_new))
    told = explain(batch.loaded, job, ids) if rules.explain else ""
    notes = "; ".join([*shortages, *job.notes])
    return Response(ids, scores, batch.loaded.release_id, source, notes, told)


def _shortage(loaded: Loaded, job: Job) -> str:
    """The code for fewer than k items: did rules leave too few, or wasn't there enough anyway?"""
    rules = job.request.rules
    there = int(loaded.shown.sum())
    if rules.exclude_seen:
        there -= int(loaded.shown[loaded.catalogue.rows(job.seen)].sum())
    ruled = rules.allow is not None or rules.deny or rules.diversity
    return "rules_exhausted" if ruled and there >= job.request.k else "catalogue_exhausted"


def _new_among(batch: _Batch, rules: Rules, ids: Sequence[str]) -> int:
    catalogue = batch.loaded.catalogue
    new = catalogue.new_mask(rules.quota_days, batch.now_s)
    return int(bits_at(new, catalogue.rows(ids)).sum())


def guarded(function: Any, *arguments: Any) -> Any:
    """The function's result; an unforeseen exception becomes an error of that request alone."""
    try:
        return function(*arguments)
    except RequestError as error:
        return error
    except Exception as error:
        log.exception("a request could not be handled")
        return ServingError(f"internal error: {type(error).__name__}: {error}")
