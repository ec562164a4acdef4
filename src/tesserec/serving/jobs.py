"""One request with all that its answer needs: history, what was seen, masks of its rules."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from tesserec.errors import RequestError
from tesserec.serving.facets import FacetRule, facet_rule
from tesserec.serving.loaded import Loaded
from tesserec.serving.lookup import Found
from tesserec.serving.masks import Told
from tesserec.serving.reasons import reason
from tesserec.serving.request import Request, Rules

SAID = {  # of what the feature store did (Found.outcome)
    "late": "did not answer in time",
    "failed": "did not answer: it failed",
    "skipped": "did not answer lately and is left alone",
    "unknown": "no longer knows the user",
}


@dataclass(frozen=True)
class Job:
    """One good request with everything that its answer needs."""

    request: Request
    history: list[str]  # item ids used, oldest first, all known to the release
    ignored: list[str]  # item ids of the history that the release does not know
    seen: set[str]
    allowed: np.ndarray | None  # packed bits of what facets in the rules leave, or None
    notes: tuple[str, ...]
    shared: Hashable = None  # equal for jobs with an equal `allowed`
    by_list: bool = False  # `allow` names items alone: they are listed, not in `allowed`
    usable: bool = True  # the model can tell something from the history
    stale: bool = False  # the history is that of a remembered row

    @property
    def denied(self) -> set[str]:
        """Item ids (and facets) that this request must not show."""
        rules = self.request.rules
        return set(rules.deny) | (self.seen if rules.exclude_seen else set())


def prepare(
    loaded: Loaded,
    request: Request | RequestError,
    found: Mapping[str, Found],
    told: Told | None = None,
) -> Job | RequestError:
    """What one request needs, out of its user's features or its own history.

    `told` hears whether the mask of its rules was in the cache: hit or miss.

    Raises:
        RequestError: rules that name no facet or no item that there is.
    """
    if isinstance(request, RequestError):
        return request
    user = found.get(request.user_id)
    row = user.row if user else None
    notes = _notes(user) if user else []
    if request.history:
        wished = list(request.history)
        notes.append(reason("history_used"))
    else:
        wished = list(row.history) if row else []
    known = loaded.catalogue.row_of
    history = [item for item in wished if item in known]
    ignored = [item for item in wished if item not in known]
    usable = loaded.recommender.tells(loaded.recommender.rows(history))
    if not usable:
        notes.append(reason("history_unusable" if history else "no_history"))
    stale = not request.history and user is not None and user.age_s is not None
    seen = (set(row.seen) if row else set()) | set(wished)
    mask = _mask(loaded, request.rules, told)
    job = Job(request, history, ignored, seen, mask[0], tuple(notes), *mask[1:])
    return replace(job, usable=usable, stale=stale)


def _notes(user: Found) -> list[str]:
    """What is to be said of how the user's features came."""
    if user.age_s is not None:
        return [reason("features_stale", store=SAID[user.outcome], age=round(user.age_s))]
    if user.outcome == "unknown":
        return [reason("unknown_user")]
    return [] if user.outcome == "read" else [reason("features_missing", store=SAID[user.outcome])]


def _mask(
    loaded: Loaded, rules: Rules, told: Told | None
) -> tuple[np.ndarray | None, Hashable, bool]:
    """`allowed`, `shared` and `by_list` of a job.

    Item ids beside facets in `allow` come on top of what the facets match.
    """
    catalogue = loaded.catalogue
    rule = facet_rule(rules.allow, rules.deny, catalogue.row_of)
    listed = catalogue.rows(rules.allow or ())
    by_facet = rule is not None and rule.allow is not None
    by_list = rules.allow is not None and not by_facet
    if by_list and rules.allow is not None and not len(listed):
        raise RequestError(
            f"rule allow names {len(rules.allow)} items, none of which release "
            f"{loaded.release_id} has: it would allow nothing"
        )
    if rule is None:
        return None, None, by_list
    if by_list or not len(listed):
        return catalogue.mask(rule, told), rule, by_list
    bits = catalogue.mask(FacetRule(rule.allow, frozenset()), told).copy()
    np.bitwise_or.at(bits, listed >> 3, np.uint8(1) << (listed & 7).astype(np.uint8))
    if rule.deny:
        bits &= catalogue.mask(FacetRule(None, rule.deny), told)
    return bits, (rule, listed.tobytes()), False
