"""Component: decide."""

from kfp.dsl import Artifact, Input, Output

from components.base import component


@component
def decide(
    workdir: str,
    run_id: str,
    config: str,
    cadence: str,
    survey_of_items: Input[Artifact],
    decision: Output[Artifact],
) -> str:
    """Which cadence is due (with `cadence` "due"), or the one that was asked for."""
    import json
    from pathlib import Path

    from tesserec.steps.runner import run_step

    run_step("decide", workdir, run_id, config, [survey_of_items.path], decision.path)
    found = json.loads(Path(decision.path).read_text())
    due = json.loads((Path(found["uri"]) / "decision.json").read_text())["due"]
    return due if cadence == "due" else cadence
