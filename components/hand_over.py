"""Component: hand over."""

from kfp.dsl import Artifact, Input, Output

from components.base import component


@component
def hand_over(
    workdir: str,
    run_id: str,
    config: str,
    change: Input[Artifact],
    handover: Output[Artifact],
) -> None:
    """Rehearse, promote, and see the running server answer with it."""
    from tesserec.steps.runner import run_step

    run_step("hand_over", workdir, run_id, config, [change.path], handover.path)
