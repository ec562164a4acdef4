"""The output `explain`: why these items."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from tesserec.serving.answering import Job
    from tesserec.serving.loaded import Loaded


def explain(loaded: Loaded, job: Job, ids: list[str]) -> str:
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
            "excluded": len(catalogue.rows(job.denied)),
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
