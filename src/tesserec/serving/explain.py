"""The output `explain`: why these items.

Legend of shapes: m digits of a code, h items of the history.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from tesserec.serving.catalogue import Catalogue
    from tesserec.serving.jobs import Job
    from tesserec.serving.loaded import Loaded

BECAUSE = 3  # items of the history named for each recommendation


def explain(loaded: Loaded, job: Job, ids: list[str]) -> str:
    """JSON: which history was used, what was left out, and what the answer's items are like.

    `because` are the items of the history that share most digits with a recommended one, and which
    digits; null where the model has no codes.
    """
    catalogue = loaded.catalogue
    codes = loaded.recommender.codes
    titles = _titles(catalogue, ids)
    used = list(dict.fromkeys(reversed(job.history)))  # the latest first, each once
    names = _titles(catalogue, used)
    history = [catalogue.row_of[item] for item in used]
    items = []
    for item, title in zip(ids, titles, strict=True):
        row = catalogue.row_of[item]
        told: dict[str, Any] = {"item_id": item, "title": title, "sid": None, "because": None}
        if codes is not None:
            told["sid"] = codes[row].tolist()
            told["because"] = [
                {"item_id": used[place], "title": names[place], "shared": len(d), "digits": d}
                for place, d in _nearest(codes[history], codes[row])
            ]
        items.append(told)
    rules = job.request.rules
    return json.dumps(
        {
            "history": job.history,
            "history_titles": _titles(catalogue, job.history),
            "ignored": job.ignored,
            "seen": len(job.seen),
            "excluded": len(catalogue.rows(job.denied)),
            "rules": {name: getattr(rules, name) for name in rules.__dataclass_fields__},
            "items": items,
        },
        ensure_ascii=False,
    )


def _nearest(history: np.ndarray, own: np.ndarray) -> list[tuple[int, list[int]]]:
    """(place, equal digits) of the rows of codes [h, m] most like `own` [m]; of equals the first.

    Rows that share no digit are left out.
    """
    equal = history == own
    shared = equal.sum(1)
    best = np.argsort(-shared, kind="stable")[:BECAUSE]
    return [(int(place), np.flatnonzero(equal[place]).tolist()) for place in best if shared[place]]


def _titles(catalogue: Catalogue, item_ids: Sequence[str]) -> list[str | None]:
    rows = [catalogue.row_of[item] for item in item_ids]
    return catalogue.items["title"].take(rows).to_pylist() if rows else []
