"""Step `hand_over`: a release of a re-tokenization is rehearsed, promoted, and seen to serve."""

from __future__ import annotations

import json
import logging
import time
from pathlib import Path
from typing import Any

from tesserec.artifacts import Artifact, build, discard, write_atomic
from tesserec.config import RunConfig
from tesserec.errors import GateFailed, ServingError

VERSION = 1
TIMEOUT_S = 300.0  # for a running server to load, rehearse and swap
log = logging.getLogger(__name__)


def run(workdir: Path, config: RunConfig, extension: Artifact) -> Artifact:
    """The artefact `handover`: `handover.json` {release_id, parent, promoted, reachable, new,
    histories, served (false: no server runs), seconds: {rehearse, promote, reach}, at}.

    With `retokenization.canary` a rebuilt release answers that share of the users, and the parent
    stays promoted.

    The running server rehearses the release in its second place before it answers with it; if it
    refuses, the pointer goes back to the parent.

    Either outcome is remembered, since refusals of `maintain` call for a rebuild.

    Raises:
        GateFailed: the rehearsal found a difference, or the server refused the release.
    """
    from tesserec.retokenization.history import remember_outcome

    told = extension.read_json("change.json")
    canary = config.retokenization.canary if told["cadence"] == "rebuild" else 0.0

    def make(folder: Path) -> None:
        try:
            found = _hand_over(workdir, told, canary)
        except GateFailed as error:
            remember_outcome(workdir, told, str(error))
            raise
        if told["release_id"] is not None:
            remember_outcome(workdir, told, None)
        write_atomic(folder / "handover.json", json.dumps(found, indent=1))

    def made() -> tuple[Artifact, bool]:
        return build(
            workdir,
            "handover",
            params={"canary": canary},
            parents=[extension],
            version=VERSION,
            make=make,
        )

    artifact, reused = made()
    if reused:
        from tesserec.release import promoted

        # rolled back since; or nothing to do, and the server may do something else by now
        if told["release_id"] is None or promoted(workdir) == told["parent"]:
            discard(artifact)
            artifact, _ = made()
    return artifact


def _hand_over(workdir: Path, told: dict[str, Any], canary: float) -> dict[str, Any]:
    from tesserec.release import CANARY, promote, try_release

    release_id, parent = told["release_id"], told["parent"]
    if release_id is None:
        return {
            "release_id": None,
            "parent": parent,
            "promoted": False,
            "served": _served_already(workdir, parent),
        }
    from tesserec.retokenization.rehearsal import rehearse_beside

    began = time.monotonic()
    releases = workdir / "releases"
    rehearsed = rehearse_beside(releases / release_id, releases / parent)
    rehearsed_at = time.monotonic()
    if canary:
        try_release(workdir, release_id, mode=CANARY, share=canary)
        tried = {"release_id": release_id, "parent": parent, "promoted": False, **rehearsed}
        seconds = {"rehearse": round(rehearsed_at - began, 2), "promote": None, "reach": None}
        return {**tried, "served": False, "at": int(time.time()), "seconds": seconds}
    pointer = promote(workdir, release_id)
    promoted_at = time.monotonic()
    reached = _awaited(workdir, release_id, parent, since=pointer["promoted_at"])
    return {
        "release_id": release_id,
        "parent": parent,
        "promoted": True,
        **rehearsed,
        "served": reached is not None,
        "at": int(time.time()),
        "seconds": {
            "rehearse": round(rehearsed_at - began, 2),
            "promote": round(promoted_at - rehearsed_at, 2),
            "reach": round(reached, 2) if reached is not None else None,
        },
    }


def _served_already(workdir: Path, release_id: str) -> bool:
    """Whether the running server answers with the release that is promoted, which knows all.

    A run that was killed between the two may have left a server that refuses it.
    """
    from tesserec.release.manifest import read_release, release_folder
    from tesserec.release.pointer import read_pointer

    pointer = read_pointer(workdir) or {}
    manifest = read_release(release_folder(workdir, release_id))
    if "cadence" not in manifest or pointer.get("previous") != manifest["parent"]:
        from tesserec.serving.status import server_status

        status = server_status(workdir)
        return status is not None and status["serving"] == release_id
    since = pointer["promoted_at"]
    return _awaited(workdir, release_id, manifest["parent"], since=since) is not None


def _awaited(workdir: Path, release_id: str, parent: str, *, since: str) -> float | None:
    """Seconds until the running server serves it; None without one; back if it refuses."""
    from tesserec.release.candidate import withdraw_promotion
    from tesserec.serving.arrival import await_release

    try:
        return await_release(workdir, release_id, since=since, timeout_s=TIMEOUT_S)
    except ServingError as error:
        withdraw_promotion(workdir, release_id, parent, str(error), by="tesserec retokenize")
        raise GateFailed(f"{error}; {parent} is promoted again") from None
