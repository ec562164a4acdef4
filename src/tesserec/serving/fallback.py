"""Popular items under the rules of a request, for when the model can't answer it.

Of the category of the history's last item, if there is one: of its whole path, else of the starts
of that, whichever is the first to hold k items that the rules allow, as many new ones among them as
all items would give; else of all items.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from tesserec.decoders.constraints import Constraints, bits_at, count_bits
from tesserec.serving.facets import Facet, FacetRule
from tesserec.serving.jobs import Job
from tesserec.serving.loaded import Loaded

POPULAR, IN_CATEGORY = "popular", "popular_in_category"


def popular(loaded: Loaded, job: Job, rules: Constraints) -> tuple[list[str], np.ndarray, str]:
    """(item ids, scores, source) of one job; `rules` are those of this job alone."""
    k = min(job.request.k, len(loaded.catalogue.row_of))
    # a category may lack new items that there are elsewhere
    needed = _in_quota(loaded, rules, loaded.recommender.popular(k, rules)[0]) if rules.quota else 0
    for path in _paths(loaded, job):
        facet = FacetRule(frozenset({Facet("category", path)}), frozenset())
        bits = loaded.catalogue.mask(facet)
        if rules.allowed is not None:
            bits = bits & rules.allowed
        if count_bits(bits) >= k:
            ids, scores = loaded.recommender.popular(k, replace(rules, allowed=bits))
            if len(ids) == k and _in_quota(loaded, rules, ids) >= needed:
                return ids, scores, IN_CATEGORY
    return *loaded.recommender.popular(k, rules), POPULAR


def _in_quota(loaded: Loaded, rules: Constraints, ids: list[str]) -> int:
    """How many of these items count for the quota, at most as many as it asks for."""
    if rules.quota is None:
        return 0
    bits, wanted = rules.quota
    return min(wanted, int(bits_at(bits, loaded.catalogue.rows(ids)).sum()))


def _paths(loaded: Loaded, job: Job) -> Iterator[str]:
    """The category path of the last item that has one, and the starts of it, longest first."""
    catalogue = loaded.catalogue
    found = (catalogue.category(catalogue.row_of[item]) for item in reversed(job.history))
    levels = next((path for path in found if path), "").split(" > ")
    for length in range(len(levels), 0, -1):
        if levels[0]:
            yield " > ".join(levels[:length])
