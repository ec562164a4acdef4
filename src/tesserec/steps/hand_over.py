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

    The running server rehearses the release in its second place before it answers with it; if it
    refuses, the pointer goes back to the parent.

    Raises:
        GateFailed: the rehearsal found a difference, or the server refused the release.
    """
    del config  # every step takes it
    told = extension.read_json("change.json")

    def make(folder: Path) -> None:
        write_atomic(folder / "handover.json", json.dumps(_hand_over(workdir, told), indent=1))

    def made() -> tuple[Artifact, bool]:
        return build(
            workdir, "handover", params={}, parents=[extension], version=VERSION, make=make
        )

    artifact, reused = made()
    if reused and told["release_id"]:
        from tesserec.release import promoted

        if promoted(workdir) == told["parent"]:  # rolled back since: hand it over again
            discard(artifact)
            artifact, _ = made()
    return artifact


def _hand_over(workdir: Path, told: dict[str, Any]) -> dict[str, Any]:
    from tesserec.release import promote
    from tesserec.release.candidate import withdraw_promotion
    from tesserec.retokenization.rehearsal import rehearse_beside
    from tesserec.serving.arrival import await_release

    release_id, parent = told["release_id"], told["parent"]
    if release_id is None:
        return {"release_id": None, "parent": parent, "promoted": False, "served": False}
    began = time.monotonic()
    releases = workdir / "releases"
    rehearsed = rehearse_beside(releases / release_id, releases / parent)
    rehearsed_at = time.monotonic()
    pointer = promote(workdir, release_id)
    promoted_at = time.monotonic()
    try:
        reached = await_release(
            workdir, release_id, since=pointer["promoted_at"], timeout_s=TIMEOUT_S
        )
    except ServingError as error:
        withdraw_promotion(workdir, release_id, parent, str(error), by="tesserec retokenize")
        raise GateFailed(f"{error}; {parent} is promoted again") from None
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
