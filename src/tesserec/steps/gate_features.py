"""Step: may the features be used?"""

from __future__ import annotations

from pathlib import Path

from tesserec.artifacts import Artifact, build
from tesserec.config import RunConfig

VERSION = 1


def run(workdir: Path, config: RunConfig, features: Artifact) -> Artifact:
    """Check the feature tables; the artefact holds `verdict.json` and `data_docs/`.

    Raises:
        GateFailed: a critical expectation failed, now or when the verdict was made.
    """
    from tesserec.validation.verdict import raise_if_failed

    def make(folder: Path) -> None:
        from tesserec.validation.frames import feature_frames
        from tesserec.validation.gate import run_gate

        shape = config.features
        settings = {
            "user_history": {
                "history_length": shape.history_length,
                "seen_limit": shape.seen_limit,
            },
            "item_stats": {"windows": tuple(shape.windows_days)},
        }
        run_gate("gate_features", feature_frames(features), folder, settings)

    params = {
        "history_length": config.features.history_length,
        "seen_limit": config.features.seen_limit,
        "windows_days": list(config.features.windows_days),
    }
    artifact, _ = build(
        workdir, "gate_features", params=params, parents=(features,), version=VERSION, make=make
    )
    return raise_if_failed(artifact)
