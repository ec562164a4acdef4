"""Step: may the vectors and the code table be used?"""

from __future__ import annotations

from pathlib import Path

from tesserec.artifacts import Artifact, build
from tesserec.config import RunConfig
from tesserec.steps.catalogue import is_skipped

VERSION = 2


def run(workdir: Path, config: RunConfig, vectors: Artifact, codes: Artifact) -> Artifact:
    """Check vectors, codes and code books; the artefact holds `verdict.json` and `data_docs/`.

    A model without codes passes: there is nothing to check.

    Raises:
        GateFailed: a critical expectation failed, now or when the verdict was made.
    """
    from tesserec.validation.verdict import Verdict, raise_if_failed

    def make(folder: Path) -> None:
        if is_skipped(codes):
            Verdict("gate_codes", True, (), 0, {}, {}).save(folder)
            return
        from tesserec.validation.frames import code_frames
        from tesserec.validation.gate import run_gate

        frames, settings = code_frames(vectors, codes)
        settings["quality"] = {"measured": config.tokenizer.name != "given"}
        run_gate("gate_codes", frames, folder, settings)

    artifact, _ = build(
        workdir, "gate_codes", params={}, parents=(vectors, codes), version=VERSION, make=make
    )
    return raise_if_failed(artifact)
