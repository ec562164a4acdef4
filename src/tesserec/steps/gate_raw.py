"""Step: may the raw data be used?"""

from __future__ import annotations

from pathlib import Path

from tesserec.artifacts import Artifact, build
from tesserec.config import RunConfig

VERSION = 1


def run(workdir: Path, config: RunConfig, raw: Artifact) -> Artifact:
    """Check raw interactions and items; the artefact holds `verdict.json` and `data_docs/`.

    Raises:
        GateFailed: a critical expectation failed, now or when the verdict was made.
    """
    from tesserec.validation.verdict import raise_if_failed

    def make(folder: Path) -> None:
        from tesserec.validation.frames import raw_frames
        from tesserec.validation.gate import run_gate

        frames = raw_frames(raw)
        times = frames["interactions"].get("timestamp")
        settings = {
            "interactions": {
                "min_rows": config.gates.min_rows,
                # Times are all there or all null; with one there, all must be.
                "has_times": times is None or bool(times.notna().any()),
            }
        }
        run_gate("gate_raw", frames, folder, settings)

    params = {"min_rows": config.gates.min_rows}
    artifact, _ = build(
        workdir, "gate_raw", params=params, parents=(raw,), version=VERSION, make=make
    )
    return raise_if_failed(artifact)
