"""Component: maintain."""

from kfp.dsl import Artifact, Input, Output

from components.base import gpu_component


@gpu_component
def maintain(
    workdir: str,
    run_id: str,
    config: str,
    features: Input[Artifact],
    change: Output[Artifact],
) -> None:
    """Move codes within the budget and tune the model on the newest block."""
    from tesserec.steps.runner import run_step

    run_step("maintain", workdir, run_id, config, [features.path], change.path)
