"""A release that is tried beside the promoted one, and the ways back that a server may take.

`canary`: a share of the users is answered by it. `shadow`: it answers too, but nobody sees it.
`promote` of the same release completes it; `rollback` cancels it. What a server decides is written
only if the pointer still says what the server saw: between the two somebody may have moved it.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from tesserec.errors import UsageError
from tesserec.release.manifest import release_folder
from tesserec.release.pointer import now, pointer_lock, read_pointer, write_pointer
from tesserec.release.verify import require_sound

log = logging.getLogger(__name__)
CANARY, SHADOW = "canary", "shadow"


def try_release(workdir: Path, release_id: str, *, mode: str, share: float) -> dict[str, Any]:
    """Make a sound release the candidate, in place of any other; returns the pointer.

    Args:
        mode: `canary` or `shadow`.
        share: of the users, above 0 and up to 1.

    Raises:
        UsageError: no such release, nothing is promoted, it is the promoted one, or a bad share.
        ArtifactError: its files aren't those of its manifest.
    """
    if not 0 < share <= 1:
        raise UsageError(f"the share is {share:.4g}; use above 0 %, to 100 %")
    with pointer_lock(workdir):
        require_sound(release_folder(workdir, release_id))
        current = read_pointer(workdir)
        if current is None:
            raise UsageError(
                f"nothing is promoted in {workdir}, so there is nothing to try {release_id} "
                f"beside; promote it: tesserec release promote {release_id}"
            )
        if current["release_id"] == release_id:
            raise UsageError(f"{release_id} is the promoted release; try another one beside it")
        known = current["candidate"] or {}
        same = known.get("release_id") == release_id and known.get("mode") == mode
        candidate = {
            "release_id": release_id,
            "mode": mode,
            "share": share,
            "since": known["since"] if same else now(),  # another share, the same trial
        }
        return write_pointer(
            workdir,
            current["release_id"],
            current["history"],
            candidate=candidate,
            former=current,
        )


def withdraw_candidate(workdir: Path, since: str, reason: str, *, by: str) -> bool:
    """Drop the candidate that was named at `since`; false if it is no longer the one."""
    with pointer_lock(workdir):
        current = read_pointer(workdir)
        candidate = current["candidate"] if current else None
        if current is None or candidate is None or candidate["since"] != since:
            return False
        told = _told(candidate["release_id"], candidate["mode"], reason, by)
        write_pointer(
            workdir, current["release_id"], current["history"], withdrawn=told, former=current
        )
        return True


def withdraw_promotion(
    workdir: Path, release_id: str, previous: str, reason: str, *, by: str
) -> bool:
    """Go back from a release to the one before it; false if the pointer says otherwise by now."""
    with pointer_lock(workdir):
        current = read_pointer(workdir)
        if current is None or current["release_id"] != release_id:
            return False
        history = current["history"]
        if not history or history[-1] != previous:
            return False
        told = _told(release_id, "promoted", reason, by)
        write_pointer(workdir, previous, history[:-1], withdrawn=told)
        return True


def _told(release_id: str, role: str, reason: str, by: str) -> dict[str, Any]:
    log.warning("release %s (%s) is withdrawn: %s", release_id, role, reason)
    return {"release_id": release_id, "role": role, "reason": reason, "at": now(), "by": by}
