"""`<workdir>/promoted`: the one small file that says which release is served.

It holds `{release_id, previous, promoted_at, history}` and is replaced atomically, so promotion and
rollback are one rename. `history` is the stack of promotions before this one, newest last.
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


def pointer_path(workdir: Path) -> Path:
    return workdir / "promoted"


def read_pointer(workdir: Path) -> dict[str, Any] | None:
    """The pointer file's contents; None if nothing was ever promoted.

    Raises:
        ArtifactError: the file isn't what `promote` writes.
    """
    path = pointer_path(workdir)
    try:
        pointer = json.loads(path.read_text())
        return {**pointer, "release_id": str(pointer["release_id"])}
    except FileNotFoundError:
        return None
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError) as error:
        raise ArtifactError(
            f"{path} is not a promotion pointer ({error}); promote a release again"
        ) from None


def promoted(workdir: Path) -> str | None:
    """The id of the promoted release, or None."""
    pointer = read_pointer(workdir)
    return pointer["release_id"] if pointer else None


def promote(workdir: Path, release_id: str) -> dict[str, Any]:
    """Make a sound release the served one; promoting the promoted one changes nothing.

    Raises:
        UsageError: there is no such release.
        ArtifactError: its files aren't those of its manifest.
    """
    with pointer_lock(workdir):
        require_sound(release_folder(workdir, release_id))
        current = read_pointer(workdir)
        if current and current["release_id"] == release_id:
            return current
        history = [*current.get("history", []), current["release_id"]] if current else []
        return _write(workdir, release_id, history[-HISTORY:])


def rollback(workdir: Path) -> dict[str, Any]:
    """Go back to the release promoted before this one; a second rollback goes back one more.

    Raises:
        UsageError: there is nothing to go back to.
        ArtifactError: the former release is damaged.
    """
    with pointer_lock(workdir):
        current = read_pointer(workdir)
        history = list(current.get("history", [])) if current else []
        while history and not (releases_folder(workdir) / history[-1]).is_dir():
            history.pop()  # pruned since
        if not history:
            raise UsageError(f"there is no earlier promotion in {workdir} to go back to")
        former = history.pop()
        require_sound(release_folder(workdir, former))
        return _write(workdir, former, history)


def pointer_lock(workdir: Path) -> AbstractContextManager[None]:
    """Held while the pointer moves and while old releases are deleted."""
    return exclusive(workdir / ".promoted.lock", busy="another promotion is running", wait=True)


def _write(workdir: Path, release_id: str, history: list[str]) -> dict[str, Any]:
    pointer = {
        "release_id": release_id,
        "previous": history[-1] if history else None,
        "promoted_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "history": history,
    }
    write_atomic(pointer_path(workdir), json.dumps(pointer, indent=1))
    log.info("promoted %s (before: %s)", release_id, pointer["previous"])
    return pointer
