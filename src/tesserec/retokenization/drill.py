"""The roll-back drill: could the release before this one be promoted now? Nothing is moved."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import numpy as np

from tesserec.artifacts import write_atomic
from tesserec.errors import TesserecError
from tesserec.release.manifest import release_folder, releases_folder
from tesserec.release.pointer import read_pointer
from tesserec.release.verify import require_sound

HISTORIES, LENGTH, DEPTH = 8, 8, 10
AGAIN_S = 86_400  # the same two releases are drilled once a day


def drill_file(workdir: Path) -> Path:
    return workdir / "retokenization" / "drill.json"


def rollback_drill(workdir: Path, *, now: float) -> dict[str, Any]:
    """{ok, seconds, release_id, problem, promoted, at}; `ok` null: nothing to go back to.

    The release that `tesserec release rollback` would take: its hashes are verified, it is loaded
    beside the promoted one, and it answers some histories. A drill of the same two releases in the
    last day that went well stands for this one; its `at` says when it was.
    """
    promoted, former = _releases(workdir)
    found = {"ok": None, "seconds": None, "release_id": former, "problem": None}
    found |= {"promoted": promoted, "at": int(now)}
    if promoted is None or former is None:
        return found | {"problem": "there is no earlier promotion to go back to"}
    last = _last(workdir)
    same = last.get("ok") and [last["promoted"], last["release_id"]] == [promoted, former]
    if same and now - last["at"] < AGAIN_S:
        return last
    began = time.monotonic()
    try:
        _answer(workdir, promoted, former)
        found["ok"] = True
    except Exception as error:  # whatever is wrong with it, that is the drill's result
        known = isinstance(error, TesserecError | OSError)
        found |= {"ok": False, "problem": f"{'' if known else type(error).__name__ + ': '}{error}"}
    found["seconds"] = round(time.monotonic() - began, 2)
    drill_file(workdir).parent.mkdir(parents=True, exist_ok=True)
    write_atomic(drill_file(workdir), json.dumps(found, indent=1))
    return found


def _releases(workdir: Path) -> tuple[str | None, str | None]:
    """The promoted release, and the one that a roll-back would take."""
    pointer = read_pointer(workdir)
    if pointer is None:
        return None, None
    there = [one for one in pointer["history"] if (releases_folder(workdir) / one).is_dir()]
    return pointer["release_id"], there[-1] if there else None


def _answer(workdir: Path, promoted: str, former: str) -> None:
    """Raises:
    TesserecError: the former release is damaged, can't be loaded, or ranks nothing.
    """
    from tesserec.recommender import Recommender

    folder = release_folder(workdir, former)
    require_sound(folder)
    present = Recommender.load(release_folder(workdir, promoted))
    back = Recommender.load(folder, beside=[present])
    rng = np.random.default_rng(0)
    drawn = [rng.integers(0, len(back.item_ids), LENGTH) for _ in range(HISTORIES)]
    histories = [history for history in drawn if back.tells(history)]
    rows, scores = back.recommend_rows(histories, DEPTH)
    ranked = (rows >= 0).any(axis=1) & (np.isfinite(scores) | (rows < 0)).all(axis=1)
    if not len(histories) or not ranked.all():
        raise TesserecError(
            f"release {former} was loaded, and ranks nothing for {HISTORIES - int(ranked.sum())} "
            f"of {HISTORIES} histories; `tesserec evaluate {former}` says more"
        )


def _last(workdir: Path) -> dict[str, Any]:
    try:
        return json.loads(drill_file(workdir).read_text())
    except (OSError, json.JSONDecodeError):
        return {}
