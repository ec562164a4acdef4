"""Step `feature_store`: features into Feast, proved at the cuts, and the online store filled."""

from __future__ import annotations

import json
from pathlib import Path

from tesserec.artifacts import Artifact, build, hash_of_files, sha256_of, write_atomic
from tesserec.config import RunConfig
from tesserec.features.state import is_current
from tesserec.project import find_project

VERSION = 1
FOLDER = "feature_store"
DEFINITIONS = "definitions"  # in it: the hash of what was applied last


def run(workdir: Path, config: RunConfig, features: Artifact) -> Artifact:
    """Make the `store` artefact; its effects lie in `<workdir>/feature_store/`.

    The artefact alone does not prove the effects (another run may have filled the store since),
    so they are repeated unless the store's state names these features.
    """
    folder = workdir / FOLDER
    template = find_project() / "feature_repo" / config.feature_store
    definitions = _hash_of_definitions(template)

    def fill() -> dict[str, object]:
        from tesserec.features.sync import sync  # Feast takes seconds to import

        facts = sync(features, folder, template, length=config.features.history_length)
        write_atomic(folder / DEFINITIONS, definitions)
        return facts

    def make(scratch: Path) -> None:
        (scratch / "store.json").write_text(json.dumps(fill(), indent=1))

    params = {
        "history_length": config.features.history_length,
        "store": config.feature_store,
        "definitions": definitions,
    }
    artifact, found = build(
        workdir, "store", params=params, parents=[features], version=VERSION, make=make
    )
    if found and not (is_current(features.key, folder) and _applied(folder) == definitions):
        fill()
    return artifact


def _hash_of_definitions(template: Path) -> str:
    """Over the definition files: an edited view or store is applied by the next run."""
    files = sorted({*template.parent.glob("*.py"), *template.parent.glob(template.name)})
    return hash_of_files({f.name: {"sha256": sha256_of(f)} for f in files})[:16]


def _applied(folder: Path) -> str:
    """The hash of the definitions that the store was last filled with."""
    path = folder / DEFINITIONS
    return path.read_text() if path.is_file() else ""
