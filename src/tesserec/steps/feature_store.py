"""Step `feature_store`: features into Feast, proved at the cuts, and the online store filled."""

from __future__ import annotations

import json
from pathlib import Path

from tesserec.artifacts import Artifact, build
from tesserec.config import RunConfig
from tesserec.features.state import is_current
from tesserec.project import find_project

VERSION = 1
FOLDER = "feature_store"


def run(workdir: Path, config: RunConfig, features: Artifact) -> Artifact:
    """Make the `store` artefact; its effects lie in `<workdir>/feature_store/`.

    The artefact alone does not prove the effects (another run may have filled the store since),
    so they are repeated unless the store's state names these features.
    """
    folder = workdir / FOLDER

    def fill() -> dict[str, object]:
        from tesserec.features.sync import sync  # Feast takes seconds to import

        template = find_project() / "feature_repo" / config.feature_store
        return sync(features, folder, template, length=config.features.history_length)

    def make(scratch: Path) -> None:
        (scratch / "store.json").write_text(json.dumps(fill(), indent=1))

    params = {"history_length": config.features.history_length, "store": config.feature_store}
    artifact, found = build(
        workdir, "store", params=params, parents=[features], version=VERSION, make=make
    )
    if found and not is_current(features.key, folder):
        fill()
    return artifact
