"""`<workdir>/promoted`: the one small file that says which release is served.

It holds `{version, release_id, previous, promoted_at, history, candidate, withdrawn}` and is
replaced atomically, so promotion and rollback are one rename. `history` is the stack of promotions
before this one, newest last. `candidate` is the release that is tried beside the promoted one
(`tesserec.release.candidate`), `withdrawn` what a server took back last, and why. A file without a
version is of the time before there were candidates.
"""

from __future__ import annotations

import json
import logging
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tesserec.artifacts import write_atomic
from tesserec.errors import ArtifactError, UsageError
from tesserec.locks import exclusive
from tesserec.release.manifest import release_folder, releases_folder
from tesserec.release.verify import require_sound

log = logging.getLogger(__name__)
HISTORY = 50
VERSION = 2


def pointer_path(workdir: Path) -> Path:
    return workdir / "promoted"


def read_pointer(workdir: Path) -> dict[str, Any] | None:
    """The pointer file's contents; None if nothing was ever promoted.

    Raises:
        ArtifactError: the file isn't what `promote` writes, or a newer version wrote it.
    """
    path = pointer_path(workdir)
    try:
        pointer = json.loads(path.read_text())
        version, candidate = int(pointer.get("version", 1)), pointer.get("candidate")
        found = {
            **pointer,
            "release_id": str(pointer["release_id"]),
            "history": list(pointer.get("history", [])),
            "candidate": _candidate(candidate) if candidate else None,
            "withdrawn": pointer.get("withdrawn"),
        }
    except FileNotFoundError:
        return None
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        raise ArtifactError(
            f"{path} is not a promotion pointer ({error}); delete it and promote a release again"
        ) from None
    if version > VERSION:
        raise ArtifactError(
            f"{path} has version {version}, this program reads up to {VERSION}; "
            "use the version of tesserec that wrote it"
        )
    return found


def promoted(workdir: Path) -> str | None:
    """The id of the promoted release, or None."""
    pointer = read_pointer(workdir)
    return pointer["release_id"] if pointer else None


def promote(workdir: Path, release_id: str) -> dict[str, Any]:
    """Make a sound release the served one; promoting the promoted one changes nothing.

    A candidate ends by it: the promotion of itself completes it, that of another replaces it.

    Raises:
        UsageError: there is no such release.
        ArtifactError: its files aren't those of its manifest.
    """
    with pointer_lock(workdir):
        require_sound(release_folder(workdir, release_id))
        current = read_pointer(workdir)
        if current and current["release_id"] == release_id:
            return current
        history = [*current["history"], current["release_id"]] if current else []
        return write_pointer(workdir, release_id, history[-HISTORY:])


def rollback(workdir: Path) -> dict[str, Any]:
    """Cancel the candidate; without one, go back to the release promoted before this one.

    A second rollback goes back one more.

    Raises:
        UsageError: there is nothing to go back to.
        ArtifactError: the former release is damaged.
    """
    with pointer_lock(workdir):
        current = read_pointer(workdir)
        history = current["history"] if current else []
        if current and current["candidate"]:
            return write_pointer(workdir, current["release_id"], history, former=current)
        while history and not (releases_folder(workdir) / history[-1]).is_dir():
            history.pop()  # pruned since
        if not history:
            raise UsageError(f"there is no earlier promotion in {workdir} to go back to")
        former = history.pop()
        require_sound(release_folder(workdir, former))
        return write_pointer(workdir, former, history)


def pointer_lock(workdir: Path) -> AbstractContextManager[None]:
    """Held while the pointer moves and while old releases are deleted."""
    return exclusive(workdir / ".promoted.lock", busy="another promotion is running", wait=True)


def now() -> str:
    """The time as the pointer writes it; two changes never have the same."""
    return datetime.now(UTC).isoformat(timespec="microseconds")


def write_pointer(
    workdir: Path,
    release_id: str,
    history: list[str],
    *,
    candidate: dict[str, Any] | None = None,
    withdrawn: dict[str, Any] | None = None,
    former: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Replace the file; the caller holds the lock.

    Args:
        former: the pointer whose promotion goes on; None: this is a promotion of now.
    """
    pointer = {
        "version": VERSION,
        "release_id": release_id,
        "previous": history[-1] if history else None,
        "promoted_at": former["promoted_at"] if former else now(),
        "history": history,
        "candidate": candidate,
        "withdrawn": withdrawn,
    }
    write_atomic(pointer_path(workdir), json.dumps(pointer, indent=1))
    tried = f"; candidate {candidate['release_id']}" if candidate else ""
    log.info("promoted %s (before: %s)%s", release_id, pointer["previous"], tried)
    return pointer


def _candidate(tree: dict[str, Any]) -> dict[str, Any]:
    return {
        "release_id": str(tree["release_id"]),
        "mode": str(tree["mode"]),
        "share": float(tree["share"]),
        "since": str(tree["since"]),
    }
