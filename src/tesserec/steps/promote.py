"""Step: make the rehearsed release the served one."""

from __future__ import annotations

import json
import logging
from pathlib import Path

from tesserec.artifacts import Artifact, build
from tesserec.config import RunConfig
from tesserec.errors import GateFailed

VERSION = 1
log = logging.getLogger(__name__)


def run(workdir: Path, config: RunConfig, release: Artifact, rehearsal: Artifact) -> Artifact:
    """Move `<workdir>/promoted` to the release; the artefact `promotion` says when.

    Raises:
        GateFailed: the rehearsal was of another release or found differences.
    """
    from tesserec.release import promote

    del config  # every step takes it
    release_id = release.read_json("release.json")["release_id"]
    found = rehearsal.read_json("rehearsal.json")
    if found["release_id"] != release_id or not found["equal"]:
        raise GateFailed(
            f"release {release_id} is not promoted: the rehearsal is of {found['release_id']}, "
            f"equal: {found['equal']}"
        )
    pointer = promote(workdir, release_id)
    log.info("promoted %s (before: %s)", release_id, pointer["previous"])
    fields = {name: pointer[name] for name in ("release_id", "previous", "promoted_at")}

    def make(folder: Path) -> None:
        (folder / "promotion.json").write_text(json.dumps(fields, indent=1))

    artifact, _ = build(
        workdir, "promotion", params=fields, parents=[release], version=VERSION, make=make
    )
    return artifact
