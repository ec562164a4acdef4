"""Step: the candidate release must answer over gRPC as it does offline."""

from __future__ import annotations

import json
import logging
from pathlib import Path

from tesserec.artifacts import Artifact, build, discard, write_atomic
from tesserec.config import RunConfig, ServeSettings
from tesserec.errors import GateFailed

VERSION = 1
log = logging.getLogger(__name__)


def run(
    workdir: Path, config: RunConfig, release: Artifact, features: Artifact, store: Artifact
) -> Artifact:
    """Load the release in a throw-away Triton and compare; artefact: `rehearsal.json`.

    Raises:
        GateFailed: an answer differs; the message shows the first ones. The artefact is kept
            for the report; the next run rehearses again.
    """
    release_id = release.read_json("release.json")["release_id"]

    def make(folder: Path) -> None:
        from tesserec.serving.rehearsal import rehearse, sample_users

        users = sample_users(features, config.serving.rehearsal_users)
        settings = ServeSettings(threads=config.serving.threads)
        result = rehearse(workdir, None, release_id, users, settings=settings)
        log.info(
            "rehearsed %s with %d users: equal %s, latency %s ms, ready after %s s",
            release_id,
            result["users"],
            result["equal"],
            result["latency_ms"],
            result["seconds_to_ready"],
        )
        write_atomic(folder / "rehearsal.json", json.dumps(result, indent=1, ensure_ascii=False))

    params = {"users": config.serving.rehearsal_users, "threads": config.serving.threads}

    def made() -> tuple[Artifact, bool]:
        parents = (release, features, store)
        return build(
            workdir, "rehearsal", params=params, parents=parents, version=VERSION, make=make
        )

    artifact, reused = made()
    if reused and not artifact.read_json("rehearsal.json")["equal"]:
        discard(artifact)  # what lies outside of the key may have been the cause: an event, say
        artifact, _ = made()
    found = artifact.read_json("rehearsal.json")
    if not found["equal"]:
        examples = "; ".join(
            f"user {m['user_id']}: {m['problem']}" for m in found["mismatches"][:3]
        )
        raise GateFailed(
            f"release {release_id} answers {len(found['mismatches'])} of {found['users']} users "
            f"otherwise than offline: {examples}",
            artifact,
        )
    return artifact
