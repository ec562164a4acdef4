"""Step `features`: raw data -> cleaned events, sequences, histories, item profile, statistics."""

from __future__ import annotations

from pathlib import Path

from tesserec.artifacts import Artifact, build
from tesserec.config import RunConfig, to_dict

VERSION = 1


def run(workdir: Path, config: RunConfig, raw: Artifact) -> Artifact:
    """Make the `features` artefact by the Beam job (docs/features.md), or find it.

    The runner and its options are not part of the key: every runner gives the same files.
    """
    params = to_dict(config.features) | {"split": to_dict(config.split)}
    del params["runner"], params["runner_options"]

    def make(folder: Path) -> None:
        from tesserec.features.job import run_job  # Beam takes seconds to import

        run_job(raw.path, folder, config.features, config.split)

    artifact, _ = build(
        workdir, "features", params=params, parents=[raw], version=VERSION, make=make
    )
    return artifact
