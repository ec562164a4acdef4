"""A new release beside its parent, in this process: what must stay stays, what is new comes out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from tesserec.decoders.constraints import Constraints, pack_bits
from tesserec.errors import GateFailed
from tesserec.recommender import Recommender
from tesserec.retokenization import life

HISTORIES, LENGTH = 32, 8
DEPTH = 50
AT_ONCE = 1000  # new items asked for in one ranking
TOLERANCE = 1e-4  # relative


def rehearse_beside(folder: Path, parent: Path, *, seed: int = 0) -> dict[str, int]:
    """Load both releases and compare; {histories, reachable, new}.

    Where the model is the same, the rankings of the items whose code stayed must be the parent's.
    Every new item that may be shown must come out of a ranking of new items alone.

    Raises:
        GateFailed: a ranking differs, a score is no number, or a new item can't come out.
    """
    old = Recommender.load(parent)
    new = Recommender.load(folder, beside=[old])
    same_rows = new.item_ids[: len(old.item_ids)] == old.item_ids
    same = _same_codes(old, new) if same_rows else np.zeros(len(new.item_ids), bool)
    rng = np.random.default_rng(seed)
    # of items whose code stayed: a moved one in a history moves the whole ranking
    drawn = np.flatnonzero(same) if same.any() else np.arange(len(new.item_ids))
    histories = [rng.choice(drawn, LENGTH) for _ in range(HISTORIES)]
    models = [name for name in new.hashes if name.startswith("models/")]
    if all(new.hashes[name] == old.hashes.get(name) for name in models):
        if not same_rows:
            raise GateFailed(f"release {new.release_id} has other item rows than {old.release_id}")
        _same_rankings(old, new, histories, same)
    fresh = np.array([item not in old.row_of for item in new.item_ids], bool)
    rows = np.flatnonzero(fresh & _shown(new))
    return {
        "histories": len(histories),
        "new": int(fresh.sum()),
        "reachable": _reachable(new, histories, rows),
    }


def _same_codes(old: Recommender, new: Recommender) -> np.ndarray:
    """bool [N] of the new release: known to the old one, with the same code."""
    same = np.zeros(len(new.item_ids), bool)
    assert new.codes is not None and old.codes is not None
    same[: len(old.item_ids)] = (new.codes[: len(old.codes)] == old.codes).all(axis=1)
    return same


def _same_rankings(
    old: Recommender, new: Recommender, histories: list[np.ndarray], same: np.ndarray
) -> None:
    known, total = len(old.item_ids), len(new.item_ids)
    rules = [Constraints(allowed=pack_bits(same[:n])) for n in (known, total)]
    before = old.recommend_rows(histories, DEPTH, rules[0])
    after = new.recommend_rows(histories, DEPTH, rules[1])
    close = np.isclose(before[1], after[1], rtol=TOLERANCE, atol=0, equal_nan=True)
    # rows may differ only among equal scores
    wrong = ~close | ((before[0] != after[0]) & ~_tied(before[1]))
    if wrong.any() or not np.isfinite(after[1][after[0] >= 0]).all():
        user = int(np.flatnonzero(wrong.any(axis=1))[0]) if wrong.any() else 0
        raise GateFailed(
            f"release {new.release_id} ranks items that did not change otherwise than "
            f"{old.release_id}: history {histories[user].tolist()} gives "
            f"{after[0][user][:5].tolist()} against {before[0][user][:5].tolist()} (rows); it is "
            "not promoted"
        )


def _tied(scores: np.ndarray) -> np.ndarray:
    """bool [B, k]: the score is within the tolerance of the one before or after it."""
    gaps = np.abs(np.diff(scores, axis=1)) <= TOLERANCE * np.abs(scores[:, 1:])
    tied = np.zeros(scores.shape, bool)
    tied[:, 1:] |= gaps
    tied[:, :-1] |= gaps
    tied[:, -1] = True  # the next one isn't here
    return tied


def _shown(recommender: Recommender) -> np.ndarray:
    """bool [N]: the release may show the item."""
    items = recommender.items
    shown = np.array([flag is not False for flag in items["available"].to_pylist()], bool)
    if life.STATUS in items.column_names:
        shown &= ~life.in_status(items, life.RETIRED) & ~life.in_status(items, life.PURGED)
    return shown


def _reachable(recommender: Recommender, histories: list[np.ndarray], rows: np.ndarray) -> int:
    """How many of these rows come out of rankings that are confined to them.

    Raises:
        GateFailed: one of them doesn't.
    """
    found: set[int] = set()
    for start in range(0, len(rows), AT_ONCE):
        part = rows[start : start + AT_ONCE]
        allowed = np.zeros(len(recommender.item_ids), bool)
        allowed[part] = True
        rules: Any = Constraints(allowed=pack_bits(allowed))
        ranked, scores = recommender.recommend_rows(histories[:1], len(part), rules)
        found |= set(ranked[0][np.isfinite(scores[0]) & (ranked[0] >= 0)].tolist())
    missing = [row for row in rows.tolist() if row not in found]
    if missing:
        raise GateFailed(
            f"{len(missing)} of {len(rows)} new items can't be recommended by release "
            f"{recommender.release_id}, {recommender.item_ids[missing[0]]!r} is the first; it is "
            "not promoted"
        )
    return len(found)
